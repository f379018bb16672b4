# Tries to send a set with more holders than elements. Expect: error|failed
import json
import os


def send(message):
    data = message if isinstance(message, bytes) else json.dumps(message).encode()
    os.write(3, len(data).to_bytes(4, "big") + data)


def f(x):
    send(["value", ["set", 3, list(range(100000)), 1], []])
    return 0
