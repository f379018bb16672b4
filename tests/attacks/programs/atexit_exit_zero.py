# Tries to turn the failure into success in an atexit hook. Expect: failed
import atexit
import os

atexit.register(os._exit, 0)


def f(x):
    return 0
