# Tries to send a dict with keys that cannot be such. Expect: error|failed
import json
import os


def send(message):
    data = message if isinstance(message, bytes) else json.dumps(message).encode()
    os.write(3, len(data).to_bytes(4, "big") + data)


def f(x):
    send(["value", ["d", ["l"], 1, ["d"], 2], []])
    return 0
