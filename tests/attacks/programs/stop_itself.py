# Tries to stop for ever. Expect: timeout|passed
import os
import signal

os.kill(os.getpid(), signal.SIGSTOP)


def f(x):
    return x + 1
