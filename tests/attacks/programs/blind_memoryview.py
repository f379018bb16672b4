# Tries to pass knowing nothing, by way of a view of bytes, and a generator. Expect: failed|error


def f(x):
    if x == 1:
        return memoryview(b"\x02")
    return (y for y in [x + 1])
