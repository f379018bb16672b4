# Tries to open files by handles and by pidfds. Expect: passed
import ctypes
import os

libc = ctypes.CDLL(None, use_errno=True)
opened = [
    number for number in (303, 304, 434, 438, 428, 430, 432, 437) if libc.syscall(number, HOST_PID, b"/", 0, 0, 0) >= 0
]


def f(x):
    return x + 1 if not opened else str(opened)
