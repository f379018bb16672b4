# Tries to go on in a thread after its function has returned. Expect: passed
import threading
import time


def stay():
    while True:
        time.sleep(0.01)


threading.Thread(target=stay).start()


def f(x):
    return x + 1
