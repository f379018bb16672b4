# Tries to make system calls by the numbers of 32-bit programs, which a filter may not know. Expect: passed
import ctypes
import mmap
import platform

GETPID_OF_I386 = bytes([0xB8, 20, 0, 0, 0, 0xCD, 0x80, 0xC3])  # mov eax, 20; int 0x80; ret
number = -1
if platform.machine() == "x86_64":
    memory = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    memory.write(GETPID_OF_I386)
    number = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(memory)))()


def f(x):
    return x + 1 if number < 0 else number
