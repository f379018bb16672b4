# Tries to find the connection with gc and send a verdict over it. Expect: error
import gc
import socket

message = b'{"verdict":"passed","explanation":""}'
for thing in gc.get_objects():
    if isinstance(thing, socket.socket):
        thing.sendall(len(message).to_bytes(4, "big") + message)


def f(x):
    return 0
