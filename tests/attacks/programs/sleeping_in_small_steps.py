# Tries to wait for ever in steps too small to be seen. Expect: timeout
import time


def f(x):
    while True:
        time.sleep(0.05)
