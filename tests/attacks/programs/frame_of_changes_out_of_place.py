# Tries to change what its tests hold by naming arguments that there are not. Expect: error
import socket

channel = socket.socket(fileno=3)


def f(x):
    message = b'["value",["like",["h",1,"x",null,255],2],[[-1,5],[true,1],[0.0,1],["a",1],[[],1]]]'
    channel.sendall(len(message).to_bytes(4, "big") + message)
    return 2
