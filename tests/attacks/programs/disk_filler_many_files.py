# Tries to fill the disk with many files, each below the limit of one. Expect: passed|error
import time

written = 0
try:
    for number in range(256):
        with open(f"filler{number}", "wb") as file:
            written += file.write(bytes(1 << 20))
        time.sleep(0.01)
except OSError:
    pass


def f(x):
    return x + 1 if written <= 128 << 20 else f"{written} bytes"
