# Tries to answer before its module is loaded. Expect: error|failed
import json
import os


def send(message):
    data = message if isinstance(message, bytes) else json.dumps(message).encode()
    os.write(3, len(data).to_bytes(4, "big") + data)


send(["ready"])


def f(x):
    return 0
