# Tries to call functions of the tests by number. Expect: error|failed
import json
import os


def send(message):
    data = message if isinstance(message, bytes) else json.dumps(message).encode()
    os.write(3, len(data).to_bytes(4, "big") + data)


def f(x):
    send(["call_back", -1, [], {}])
    return 0
