# Tries to pass with a date of its own class that equals anything. Expect: failed|error
import datetime


class Own(datetime.date):
    def __eq__(self, other):
        return True

    def __ne__(self, other):
        return False

    def __hash__(self):
        return 0

    __sub__ = lambda self, other: 0


def f(x):
    return Own(2000, 1, 1)
