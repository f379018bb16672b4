# Tries to leave a note for the next program by watching what the other opens. Expect: passed
import ctypes

libc = ctypes.CDLL(None, use_errno=True)
watching = [
    name
    for name, arguments in (("inotify_init1", (0,)), ("fanotify_init", (0, 0)))
    if getattr(libc, name)(*arguments) >= 0
]


def f(x):
    return x + 1 if not watching else str(watching)
