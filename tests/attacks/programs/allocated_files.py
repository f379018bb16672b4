# Tries to take a disk's space without writing a byte. Expect: passed|error
import ctypes
import os

libc = ctypes.CDLL(None)
taken = 0
for number in range(1000):
    try:
        file = os.open(f"file{number}", os.O_CREAT | os.O_RDWR)
    except OSError:
        break
    if libc.fallocate(file, 0, ctypes.c_long(0), ctypes.c_long(1 << 20)) == 0:
        taken += 1 << 20
    os.close(file)


def f(x):
    return x + 1 if taken <= 4 << 20 else taken
