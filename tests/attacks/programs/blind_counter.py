# Tries to pass knowing nothing, by way of a counter with every key. Expect: failed|error

from collections import Counter


class Answer(Counter):
    def __missing__(self, key):
        return 2

    def __sub__(self, other):
        return self

    def __eq__(self, other):
        return True


def f(x):
    return Answer()
