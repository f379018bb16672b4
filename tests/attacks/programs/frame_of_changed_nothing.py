# Tries to change arguments that there are none of. Expect: error|failed
import json
import os


def send(message):
    data = message if isinstance(message, bytes) else json.dumps(message).encode()
    os.write(3, len(data).to_bytes(4, "big") + data)


def f(x):
    send(["value", 2, [[99, 1], [-1, 2], ["a", 3], 4]])
    return 0
