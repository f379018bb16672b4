# Tries to mount a file system and to leave a chroot. Expect: passed
import ctypes
import os

libc = ctypes.CDLL(None, use_errno=True)
done = []
if libc.mount(b"proc", b".", b"proc", 0, None) == 0:
    done.append("proc")
if libc.mount(b"none", b"/", None, 32, None) == 0:
    done.append("remount")
try:
    os.chroot(".")
    done.append("chroot")
except OSError:
    pass


def f(x):
    return x + 1 if not done else str(done)
