# Tries to read the environment, its own and others'. Expect: passed
import os


def read(path):
    try:
        return open(path, "rb").read()
    except OSError:
        return b""


found = dict(os.environ), read("/proc/self/environ"), read("/proc/1/environ"), read("/proc/HOST_PID/environ")


def f(x):
    return (
        x + 1
        if not any(b"HOST_TOKEN" in part if part and isinstance(part, bytes) else part for part in found)
        else "read"
    )
