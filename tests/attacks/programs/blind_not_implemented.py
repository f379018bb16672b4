# Tries to pass knowing nothing, by way of NotImplemented, which leaves a comparison to the other side. Expect: failed|error


def f(x):
    return NotImplemented
