# Tries to get privileges back. Expect: passed
import os

done = []
for action in (lambda: os.setuid(0), lambda: os.setgroups([0]), lambda: os.sethostname and os.sethostname("harm")):
    try:
        before = os.getuid()
        action()
        if os.getuid() != before:
            done.append(os.getuid())
    except (OSError, AttributeError):
        pass


def f(x):
    return x + 1 if not done else str(done)
