# Tries to keep its tests waiting for the rest of a message. Expect: timeout
import socket
import time

channel = socket.socket(fileno=3)


def f(x):
    channel.sendall(b"\x03\xff\xff\xff[" + b"1," * 100_000)
    time.sleep(100)
