# Tries to announce a message and send none of it. Expect: error|timeout
import os
import time


def f(x):
    os.write(3, (1 << 20).to_bytes(4, "big") + b"[")
    time.sleep(1000)
