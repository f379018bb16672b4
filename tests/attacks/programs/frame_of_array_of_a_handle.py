# Tries to have its tests ask it again and again while they read a value. Expect: error|timeout
import os
import socket

channel = socket.socket(fileno=3)


def send(message):
    channel.sendall(len(message).to_bytes(4, "big") + message)


def f(x):
    send(b'["value",["array","i",["h",1,"x",null,255]],[]]')
    while os.read(3, 1000):
        send(b'["value",["h",1,"x",null,255],[]]')
