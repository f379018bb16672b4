# Tries to leave a grandchild in a session of its own that outlives the run and writes a file. Expect: passed
import os
import time

try:
    if not os.fork():
        os.setsid()
        if not os.fork():
            time.sleep(30)
            open("HOST_FOLDER/outlived", "w").close()
        os._exit(0)
except OSError:
    pass


def f(x):
    return x + 1
