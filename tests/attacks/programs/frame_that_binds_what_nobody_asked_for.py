# Tries to give its tests builtins of its own, and a standard function under its own name. Expect: error|failed
import os
import socket

channel = socket.socket(fileno=3)


def send(message):
    channel.sendall(len(message).to_bytes(4, "big") + message)


send(b'["ready"]')
os.read(3, 1000)
send(
    b'["bound",[["f",["standard","operator"]],["abs",["value",["h",1,"x",null,255]]],["len",["value",1]],'
    b'["f",["value",["type","object"]]],["assert",["value",1]]]]'
)
while os.read(3, 1000):
    send(b'["value",true,[]]')
