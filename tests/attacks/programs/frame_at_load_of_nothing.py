# Tries to break the first message. Expect: error|failed
import json
import os


def send(message):
    data = message if isinstance(message, bytes) else json.dumps(message).encode()
    os.write(3, len(data).to_bytes(4, "big") + data)


send(b"null")


def f(x):
    return 0
