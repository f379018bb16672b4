# Tries to wake a program that runs at the same time by a file that both have in memory. Expect: passed
import ctypes
import os
import platform
import time

FUTEX = {"x86_64": 202, "aarch64": 98}[platform.machine()]
WAIT, WAKE, READABLE, PRIVATE_MAPPING = 0, 1, 1, 2


class Seconds(ctypes.Structure):
    _fields_ = [("whole", ctypes.c_long), ("billionths", ctypes.c_long)]


libc = ctypes.CDLL(None)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
address = libc.mmap(None, 4096, READABLE, PRIVATE_MAPPING, os.open(os.__file__, os.O_RDONLY), 0)
word, place = ctypes.c_int.from_address(address).value, ctypes.c_void_p(address)
met = False
for turn in range(20):
    short = Seconds(0, 20_000_000)
    woken = libc.syscall(FUTEX, place, WAIT, word, ctypes.byref(short), None, 0) == 0
    met = met or woken or libc.syscall(FUTEX, place, WAKE, 1, None, None, 0) > 0
    time.sleep(0.005)


def f(x):
    return x + 1 if not met else "met"
