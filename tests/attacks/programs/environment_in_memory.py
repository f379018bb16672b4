# Tries to read the environment that the process was started with from its stack. Expect: passed
import ctypes

libc = ctypes.CDLL(None)
environ = ctypes.POINTER(ctypes.c_char_p).in_dll(libc, "environ")
names, at = [], 0
while environ and environ[at]:
    names.append(environ[at])
    at += 1


def f(x):
    return x + 1 if not any(b"HOST_TOKEN" in name for name in names) else "read"
