# Tries to wait for ever for a thread. Expect: timeout
import threading


def f(x):
    threading.Event().wait()
