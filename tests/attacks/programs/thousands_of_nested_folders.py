# Tries to be unscored by folders too deep to be removed. Expect: passed|error|timeout
import os

try:
    for _ in range(4000):
        os.mkdir("d")
        os.chdir("d")
except OSError:
    pass


def f(x):
    return x + 1
