# Tries to pass a descriptor to another process. Expect: passed
import os
import socket

passed = []
try:
    one, other = socket.socketpair()
    socket.send_fds(one, [b"x"], [0])
    passed = socket.recv_fds(other, 1, 1)[1]
except OSError:
    pass


def f(x):
    return x + 1 if not passed else str(passed)
