# Tries to hide bytes in a folder without permissions. Expect: passed|error
import os

written = 0
try:
    os.mkdir("hidden", 0o700)
    for number in range(32):
        with open(f"hidden/{number}", "wb") as file:
            written += file.write(bytes(1 << 20))
        os.chmod("hidden", 0)
        os.chmod("hidden", 0o700)
    os.chmod("hidden", 0)
except OSError:
    pass


def f(x):
    return x + 1 if written <= 8 << 20 else f"{written} bytes"
