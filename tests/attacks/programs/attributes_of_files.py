# Tries to change the mode, owner and times of a file of the host. Expect: passed
import os

done = []
for action, arguments in (
    (os.chmod, (0o777,)),
    (os.chown, (0, 0)),
    (os.utime, ((0, 0),)),
    (os.setxattr, ("user.a", b"")),
):
    try:
        action("HOST_FILE", *arguments)
        done.append(action.__name__)
    except OSError:
        pass


def f(x):
    return x + 1 if not done else str(done)
