# Tries to become root in a user namespace of its own. Expect: passed
import ctypes
import os

libc = ctypes.CDLL(None, use_errno=True)
done = [flag for flag in (0x10000000, 0x20000000, 0x40000000, 0x00020000) if libc.unshare(flag) == 0]
clone = {"x86_64": 56, "aarch64": 220}.get(os.uname().machine, 56)
child = libc.syscall(clone, 0x10000000 | 17, None, None, None, None)
if child == 0:
    os._exit(0)


def f(x):
    return x + 1 if not done and child < 0 else f"{done} {child}"
