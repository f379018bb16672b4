# Tries to leave a System V shared memory segment behind. Expect: passed
import ctypes

libc = ctypes.CDLL(None, use_errno=True)
identifier = libc.shmget(0x00DE11A, 1 << 20, 0o1666)


def f(x):
    return x + 1
