# Tries to keep the tests busy with an endless iterator. Expect: failed|timeout|error
import itertools


def f(x):
    return itertools.count()
