# Tries to reach a file of the host through a hard link. Expect: passed
import os

found = []
for source in ("HOST_FILE", "/etc/passwd"):
    try:
        os.link(source, "linked")
        found.append(open("linked").read(10))
    except OSError:
        pass


def f(x):
    return x + 1 if not found else str(found)
