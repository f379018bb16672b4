# Tries to keep memory in files that exist in memory only. Expect: passed
import os

files, total = [], 0
try:
    for _ in range(64):
        files.append(os.memfd_create("memory"))
        for _ in range(64):
            total += os.write(files[-1], bytes(1 << 20))
except OSError:
    pass


def f(x):
    return x + 1 if total <= 256 << 20 else f"{total} bytes"
