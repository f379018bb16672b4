# Tries to confuse the protocol by answering before it is asked. Expect: error|failed
import os


def f(x):
    message = b'["value",2,[]]'
    for _ in range(8):
        os.write(3, len(message).to_bytes(4, "big") + message)
    return 0
