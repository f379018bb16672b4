# Tries to pass knowing nothing, by way of a flag that equals everything. Expect: failed

import enum


class Answer(enum.IntFlag):
    ONLY = 2

    def __eq__(self, other):
        return True

    __hash__ = int.__hash__


def f(x):
    return Answer.ONLY
