# Tries to wait for ever for itself. Expect: timeout
import threading

lock = threading.Lock()
lock.acquire()


def f(x):
    lock.acquire()
