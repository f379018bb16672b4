# Tries to leave a note for the next program by locks on files that both can read. Expect: passed
import fcntl
import os

locked = []
for action in (
    lambda file: fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB),
    lambda file: fcntl.lockf(file, fcntl.LOCK_SH | fcntl.LOCK_NB),
    lambda file: fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_RDLCK),
    lambda file: fcntl.fcntl(file, fcntl.F_NOTIFY, fcntl.DN_ACCESS),
):
    file = open(os.__file__)
    try:
        action(file)
        locked.append(action)
    except OSError:
        pass


def f(x):
    return x + 1 if not locked else f"{len(locked)} locks"
