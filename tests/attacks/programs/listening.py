# Tries to listen where the host could be fooled to connect. Expect: passed
import socket

port = 0
try:
    server = socket.socket()
    server.bind(("0.0.0.0", 0))
    server.listen()
    port = server.getsockname()[1]
except OSError:
    pass


def f(x):
    return x + 1 if not port else str(port)
