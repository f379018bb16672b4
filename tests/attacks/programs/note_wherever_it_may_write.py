# Tries to leave a note for the next program wherever a file can be made. Expect: passed
import os

left = []
for place in (
    "/",
    "/tmp",
    "/dev",
    "/dev/shm",
    "/var/tmp",
    "/run",
    "/usr",
    "/lib",
    "/etc",
    "/proc",
    os.path.dirname(os.__file__),
):
    try:
        with open(f"{place}/note", "x"):
            left.append(place)
    except OSError:
        pass


def f(x):
    return x + 1 if not left else str(left)
