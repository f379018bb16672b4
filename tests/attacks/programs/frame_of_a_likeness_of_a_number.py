# Tries to answer with a likeness of a number, which may change between two comparisons. Expect: error|failed
import os
import socket

channel = socket.socket(fileno=3)
value = 2


def send(message):
    channel.sendall(len(message).to_bytes(4, "big") + message)


def f(x):
    global value
    send(b'["value",["like",["h",1,"x",null,255],2],[]]')
    while os.read(3, 1000):
        value += 1
        send(b'["value",["like",["h",1,"x",null,255],%d],[]]' % value)
