# Tries to leave a note for the next program by the name of an abstract socket. Expect: passed
import socket

made = []
for family, address in ((socket.AF_UNIX, "\0note"), (socket.AF_INET, ("127.0.0.1", 7777)), (socket.AF_UNIX, "note")):
    try:
        kept = socket.socket(family)
        kept.bind(address)
        made.append(address)
    except OSError:
        pass


def f(x):
    return x + 1 if not made else str(made)
