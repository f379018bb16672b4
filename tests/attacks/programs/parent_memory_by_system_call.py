# Tries to read its parent's memory with process_vm_readv. Expect: passed
import ctypes
import os

libc = ctypes.CDLL(None, use_errno=True)
buffer = ctypes.create_string_buffer(8)


class Piece(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


here = Piece(ctypes.addressof(buffer), 8)
there = Piece(ctypes.addressof(buffer), 8)  # a fork has the same addresses
read = [libc.process_vm_readv(p, ctypes.byref(here), 1, ctypes.byref(there), 1, 0) for p in (os.getppid(), 1, HOST_PID)]


def f(x):
    return x + 1 if all(count <= 0 for count in read) else str(read)
