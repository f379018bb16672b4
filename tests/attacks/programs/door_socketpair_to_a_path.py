# Tries to send to a socket of the host by its path from a pair of sockets. Expect: passed
import socket

sent = []
for kind in (socket.SOCK_DGRAM, socket.SOCK_SEQPACKET, socket.SOCK_STREAM):
    for address in ("HOST_FOLDER/socket", "\0HOST_TOKEN"):
        try:
            one, other = socket.socketpair(socket.AF_UNIX, kind)
            one.sendto(b"x", address)
            sent.append(address)
        except OSError:
            pass


def f(x):
    return x + 1 if not sent else str(sent)
