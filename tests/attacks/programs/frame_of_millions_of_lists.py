# Tries to fill the memory of its tests with one message of small lists. Expect: memory|timeout
import socket
import time

channel = socket.socket(fileno=3)


def f(x):
    message = b"[" + b"[]," * (20 << 20) + b"0]"
    channel.sendall(len(message).to_bytes(4, "big") + message)
    time.sleep(100)
