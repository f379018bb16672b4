# Tries to stop and kill its parent. Expect: passed
import os
import signal

for number in (signal.SIGSTOP, signal.SIGINT, signal.SIGTERM, signal.SIGKILL, signal.SIGSEGV):
    try:
        os.kill(os.getppid() or 2**22, number)
    except OSError:
        pass


def f(x):
    return x + 1
