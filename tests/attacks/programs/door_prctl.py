# Tries to change what its process is to the kernel. Expect: passed
import ctypes

libc = ctypes.CDLL(None, use_errno=True)
changed = [
    option for option in (1, 4, 8, 22, 23, 24, 28, 35, 36, 41, 47, 53, 59) if libc.prctl(option, 1, 0, 0, 0) >= 0
]


def f(x):
    return x + 1 if not changed else str(changed)
