# Tries to have the kernel send a signal to another process when a pipe is written to. Expect: passed
import fcntl
import os
import signal

reading, writing = os.pipe()
for process in (os.getppid(), 1, HOST_PID):
    try:
        fcntl.fcntl(reading, fcntl.F_SETOWN, process)
        fcntl.fcntl(reading, 10, int(signal.SIGKILL))
        fcntl.fcntl(reading, fcntl.F_SETFL, os.O_ASYNC | os.O_NONBLOCK)
        os.write(writing, b"x")
        os.read(reading, 1)
    except OSError:
        pass


def f(x):
    return x + 1
