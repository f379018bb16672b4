# Tries to write files outside its folder. Expect: passed
import os

written = []
for path in (
    "/written",
    "/tmp/written",
    "/usr/lib/written",
    "/dev/written",
    "HOST_FOLDER/written",
    "HOST_FILE",
    os.__file__,
):
    try:
        with open(path, "a") as file:
            file.write("harm")
        written.append(path)
    except OSError:
        pass


def f(x):
    return x + 1 if not written else str(written)
