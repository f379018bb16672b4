# Tries to overflow the tests' stack with a message nested a million times. Expect: error
import os


def f(x):
    message = b'["value",' + b"[" * 1000000 + b"]" * 1000000 + b",[]]"
    message = len(message).to_bytes(4, "big") + message
    while message:
        message = message[os.write(3, message) :]
