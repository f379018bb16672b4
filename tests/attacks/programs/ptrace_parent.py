# Tries to trace its parent, process 1 and a process of the host. Expect: passed
import ctypes
import os

libc = ctypes.CDLL(None, use_errno=True)
attached = [process for process in (os.getppid(), 1, HOST_PID) if process and libc.ptrace(16, process, None, None) == 0]


def f(x):
    return x + 1 if not attached else str(attached)
