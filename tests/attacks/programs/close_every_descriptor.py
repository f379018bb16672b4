# Tries to cut the runner off by closing every descriptor. Expect: error
import os

os.closerange(0, 65536)


def f(x):
    return x + 1
