# Tries to send a set that takes all memory to build. Expect: error|failed
import json
import os


def send(message):
    data = message if isinstance(message, bytes) else json.dumps(message).encode()
    os.write(3, len(data).to_bytes(4, "big") + data)


def f(x):
    send(["value", ["set", 0, [1 << 60] * 3, 1], []])
    return 0
