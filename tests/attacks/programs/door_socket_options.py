# Tries to get hold of the process that made its socket by asking the socket for it. Expect: passed
import socket
import struct

SO_PEERCRED, SO_PEERPIDFD, SO_PEERGROUPS = 17, 77, 59
channel = socket.socket(fileno=3)
got = []
for option in (SO_PEERCRED, SO_PEERPIDFD, SO_PEERGROUPS):
    try:
        got.append(struct.unpack_from("i", channel.getsockopt(socket.SOL_SOCKET, option, 64)))
    except OSError:
        pass
channel.detach()


def f(x):
    return x + 1 if not got else got
