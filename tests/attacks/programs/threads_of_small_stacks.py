# Tries to start threads without end, each with little memory. Expect: passed|error
import threading

threading.stack_size(32768)
started, go_on = 0, threading.Event()
try:
    for _ in range(2000):
        threading.Thread(target=go_on.wait, daemon=True).start()
        started += 1
except RuntimeError:
    pass
go_on.set()


def f(x):
    return x + 1 if started < 500 else f"{started} threads"
