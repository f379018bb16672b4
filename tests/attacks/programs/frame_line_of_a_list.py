# Tries to make its tests fail with a line number that is a list. Expect: error|failed
import json
import os


def send(message):
    data = message if isinstance(message, bytes) else json.dumps(message).encode()
    os.write(3, len(data).to_bytes(4, "big") + data)


def f(x):
    send(["raised", "E", "ValueError", "", [[]]])
    return 0
