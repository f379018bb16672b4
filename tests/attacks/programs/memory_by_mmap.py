# Tries to take memory by mapping it. Expect: passed
import mmap

maps = []
try:
    for _ in range(64):
        maps.append(mmap.mmap(-1, 64 << 20))
except (OSError, ValueError, MemoryError):
    pass
count = len(maps)
maps.clear()


def f(x):
    return x + 1 if count < 10 else f"{count} maps"
