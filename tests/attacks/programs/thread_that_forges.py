# Tries to answer from a thread before the function does. Expect: failed|error
import os
import threading
import time


def forge():
    message = b'["value",2,[]]'
    while True:
        try:
            os.write(3, len(message).to_bytes(4, "big") + message)
        except OSError:
            return
        time.sleep(0.001)


def f(x):
    threading.Thread(target=forge, daemon=True).start()
    time.sleep(0.05)
    return 0
