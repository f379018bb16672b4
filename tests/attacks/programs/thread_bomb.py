# Tries to start threads without end. Expect: passed
import threading

started = 0
stop = threading.Event()
try:
    while started < 2000:
        threading.Thread(target=stop.wait, daemon=True).start()
        started += 1
except RuntimeError:
    pass


def f(x):
    return x + 1 if started < 500 else f"{started} threads"
