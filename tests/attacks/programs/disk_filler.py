# Tries to fill the disk with one file. Expect: passed
written = 0
try:
    with open("filler", "wb") as file:
        for _ in range(512):
            written += file.write(bytes(1 << 20))
            file.flush()
except OSError:
    pass


def f(x):
    return x + 1 if written <= 8 << 20 else f"{written} bytes"
