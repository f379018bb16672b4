# Tries to start processes without end. Expect: passed
import os
import time

children = 0
try:
    for _ in range(300):
        if not os.fork():
            time.sleep(60)
            os._exit(0)
        children += 1
except OSError:
    pass


def f(x):
    return x + 1 if children <= 100 else f"{children} processes"
