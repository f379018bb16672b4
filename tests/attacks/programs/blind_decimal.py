# Tries to pass with a decimal of its own class that equals anything. Expect: failed|error
import decimal


class Own(decimal.Decimal):
    def __eq__(self, other):
        return True

    def __ne__(self, other):
        return False

    def __hash__(self):
        return 0

    __sub__ = __abs__ = lambda self, *other: 0


def f(x):
    return Own(7)
