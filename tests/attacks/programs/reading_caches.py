# Tries to read home folders, caches, credentials and the sentinel file. Expect: passed
import os

found = []
for path in (
    "HOST_HOME",
    "HOST_HOME/.cache",
    "HOST_HOME/.ssh",
    "HOST_HOME/.netrc",
    "HOST_FOLDER",
    "/home",
    "/etc",
    "/tmp",
):
    for action in (os.listdir, lambda path: open(path).read()):
        try:
            if action(path) and path != "HOST_HOME":  # the interpreter itself may lie below the home folder
                found.append(path)
        except OSError:
            pass
try:
    found += [name for name in os.listdir("HOST_HOME") if name in (".cache", ".ssh", ".bash_history", ".bashrc")]
except OSError:
    pass
try:
    found.append(open("HOST_FILE").read())
except OSError:
    pass


def f(x):
    return x + 1 if not found else str(found)
