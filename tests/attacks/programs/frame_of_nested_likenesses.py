# Tries to send likenesses of likenesses. Expect: error|failed
import json
import os


def send(message):
    data = message if isinstance(message, bytes) else json.dumps(message).encode()
    os.write(3, len(data).to_bytes(4, "big") + data)


def f(x):
    send(["value", ["like", ["h", 1, "x", None, 0], ["like", ["h", 1, "x", None, 0], ["l"]]], []])
    return 0
