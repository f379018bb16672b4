# Tries to leave with SystemExit out of a comparison that a set of two equal handles asks for. Expect: error
import os
import socket

channel = socket.socket(fileno=3)


def send(message):
    channel.sendall(len(message).to_bytes(4, "big") + message)


def f(x):
    send(b'["value",["set",0,[],["h",1,"x",5,255],["h",2,"x",5,255]],[]]')
    while os.read(3, 1000):
        send(b'["raised","X","SystemExit","",1]')
