# Tries to pass knowing nothing, by way of a class whose metaclass agrees with everything. Expect: failed|error


class Agreeing(type):
    def __eq__(self, other):
        return True

    def __sub__(self, other):
        return self

    __abs__ = __hash__ = lambda self: 0


class Answer(metaclass=Agreeing):
    pass


def f(x):
    return Answer
