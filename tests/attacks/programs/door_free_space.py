# Tries to read, and to tell others, by how much space is free on a disk of the host. Expect: passed
import os

told = []
for path in ("/", ".", os.__file__, "HOST_FOLDER", "/dev/null"):
    try:
        told.append(os.statvfs(path).f_bfree)
    except OSError:
        pass


def f(x):
    return x + 1 if not told else told
