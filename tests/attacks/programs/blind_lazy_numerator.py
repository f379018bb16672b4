# Tries to pass knowing nothing, by way of a fraction whose numerator and denominator are its own. Expect: failed|error

from fractions import Fraction


class Number(int):
    def __eq__(self, other):
        return True

    __hash__ = int.__hash__


class Answer(Fraction):
    numerator = property(lambda self: Number(7))
    denominator = property(lambda self: Number(0))


def f(x):
    return Answer(2)
