# Tries to fill the disk with files that never had a name. Expect: passed|error
import os

kept, written = [], 0
try:
    for _ in range(32):
        kept.append(os.open(".", os.O_TMPFILE | os.O_WRONLY))
        written += os.write(kept[-1], bytes(1 << 20))
except OSError:
    pass


def f(x):
    return x + 1 if written <= 8 << 20 else f"{written} bytes"
