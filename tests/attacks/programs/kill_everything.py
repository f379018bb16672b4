# Tries to kill every process it may. Expect: passed|error
import os
import signal

for target in (-1, 0, -os.getpgrp()):
    for number in (signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
        try:
            os.kill(target, number)
        except OSError:
            pass
try:
    os.kill(-1, signal.SIGKILL)
except OSError:
    pass


def f(x):
    return x + 1
