# Tries to pass knowing nothing, by way of a partial that equals everything. Expect: failed|error

import functools


class Answer(functools.partial):
    def __eq__(self, other):
        return True

    __hash__ = None


def f(x):
    return Answer(print)
