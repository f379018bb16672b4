# Tries to reach a file of the host through a symbolic link. Expect: passed
import os

found = []
try:
    os.symlink("HOST_FILE", "link")
    os.symlink("HOST_FOLDER", "folder")
    os.symlink("/", "root")
except OSError:
    pass
for path in ("link", "folder/secret", "root/etc/passwd"):
    for mode in ("r", "a"):
        try:
            with open(path, mode) as file:
                found.append(file.read(10) if mode == "r" else file.write("harm"))
        except OSError:
            pass


def f(x):
    return x + 1 if not found else str(found)
