# Tries to read and write its parent's memory and files through /proc. Expect: passed
import os

found = []
for process in (os.getppid(), 1, HOST_PID):
    for name in ("mem", "maps", "environ", "root/etc/passwd", "cwd/README.md", "fd/0"):
        try:
            with open(f"/proc/{process}/{name}", "rb") as file:
                found.append((name, file.read(1)))
        except OSError:
            pass


def f(x):
    return x + 1 if not found else str(found)
