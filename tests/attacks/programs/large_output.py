# Tries to have much output kept. Expect: passed
print("x" * (8 << 20))


def f(x):
    return x + 1
