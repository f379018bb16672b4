# Tries to have a thread answer all calls with one value while the calls raise SystemExit. Expect: failed|error
import socket
import threading

channel = socket.socket(fileno=3)
MESSAGE = b'["value",2,[]]'


def answer():
    for _ in range(20):
        channel.sendall(len(MESSAGE).to_bytes(4, "big") + MESSAGE)


def f(x):
    thread = threading.Thread(target=answer)
    thread.start()
    thread.join()
    raise SystemExit
