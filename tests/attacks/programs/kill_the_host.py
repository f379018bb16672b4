# Tries to kill a process of the host by its number. Expect: passed
import os
import signal

done = []
for number in (signal.SIGTERM, signal.SIGKILL, 0):
    try:
        os.kill(HOST_PID, number)
        done.append(number)
    except OSError:
        pass


def f(x):
    return x + 1 if not done else str(done)
