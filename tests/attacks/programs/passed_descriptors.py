# Tries to pass descriptors over the connection until the other side has none left. Expect: failed|error
import array
import socket

connection = socket.socket(fileno=3)
for _ in range(200):
    connection.sendmsg([b"["], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [0, 1, 2] * 10))])
connection.detach()


def f(x):
    return 0
