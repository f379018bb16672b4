# Tries to stop in the midst of a message. Expect: error|failed|timeout
import json
import os


def send(message):
    data = message if isinstance(message, bytes) else json.dumps(message).encode()
    os.write(3, len(data).to_bytes(4, "big") + data)


def f(x):
    send(b"x" * 3)
    return 0
