# Tries to send numbers that are none. Expect: error|failed
import json
import os


def send(message):
    data = message if isinstance(message, bytes) else json.dumps(message).encode()
    os.write(3, len(data).to_bytes(4, "big") + data)


def f(x):
    send(b'["value",["h",NaN,"x",Infinity,0],[]]')
    return 0
