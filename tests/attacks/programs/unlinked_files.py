# Tries to fill the disk with files that no folder shows. Expect: passed|error
import os

kept, written = [], 0
try:
    for number in range(32):
        file = open(f"file{number}", "wb")
        kept.append(file)
        os.unlink(file.name)
        written += file.write(bytes(1 << 20))
        file.flush()
except OSError:
    pass


def f(x):
    return x + 1 if written <= 8 << 20 else f"{written} bytes"
