# Tries to leave a note for the next program in the times, modes and attributes of devices and of the standard library. Expect: passed
import os

changed = []
for path in ("/dev/null", "/dev/zero", os.__file__, os.path.dirname(os.__file__), "/"):
    for action in (
        lambda: os.utime(path),
        lambda: os.utime(path, (1, 1)),
        lambda: os.chmod(path, 0o666),
        lambda: os.setxattr(path, "user.note", b"2"),
    ):
        try:
            action()
            changed.append(path)
        except OSError:
            pass


def f(x):
    return x + 1 if not changed else str(changed)
