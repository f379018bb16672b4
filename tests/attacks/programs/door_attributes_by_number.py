# Tries to change attributes of a file of the host by system calls without a name here. Expect: passed
import ctypes
import os

libc = ctypes.CDLL(None, use_errno=True)
changed = []
path = b"HOST_FILE"
for number in (188, 189, 197, 198, 463, 464, 466, 468, 469, 90, 94, 132, 235, 261, 280):
    if (
        libc.syscall(number, -100, path, 0, b"user.a", b"x", 1) >= 0
        or libc.syscall(number, path, b"user.a", b"x", 1, 0) >= 0
    ):
        changed.append(number)


def f(x):
    return x + 1 if not changed else str(changed)
