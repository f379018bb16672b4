# Tries to overflow the stack with a raised limit. Expect: error|memory|timeout
import sys

sys.setrecursionlimit(10**9)


def f(x):
    return f(x) + 1
