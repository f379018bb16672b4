# Tries to make system calls by a ring that no filter sees. Expect: passed
import ctypes

libc = ctypes.CDLL(None, use_errno=True)
room = ctypes.create_string_buffer(256)
made = [number for number in (425, 426, 427, 206, 323, 321, 298) if libc.syscall(number, 4, room, 0, 0, 0, 0) >= 0]


def f(x):
    return x + 1 if not made else str(made)
