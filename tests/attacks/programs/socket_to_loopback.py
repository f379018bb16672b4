# Tries to connect to a server on the host's loopback, over TCP and UDP. Expect: passed
import socket

found = []
for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        try:
            with socket.socket(family, kind) as connection:
                connection.settimeout(2)
                connection.connect((address, HOST_PORT))
                connection.send(b"hello")
                found.append((address, kind))
        except OSError:
            pass


def f(x):
    return x + 1 if not found else str(found)
