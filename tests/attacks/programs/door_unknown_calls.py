# Tries to make system calls that the kernel has only lately, or does not have. Expect: passed
import ctypes
import errno

libc = ctypes.CDLL(None, use_errno=True)
let_through = []
for number in (*range(424, 436), *range(440, 448), *range(450, 452), *range(453, 700), 1 << 30, (1 << 30) + 39):
    ctypes.set_errno(0)
    if libc.syscall(number, 0, 0, 0, 0, 0, 0) >= 0 or ctypes.get_errno() not in (errno.EPERM, errno.ENOSYS):
        let_through.append(number)


def f(x):
    return x + 1 if not let_through else str(let_through)
