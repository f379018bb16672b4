# Tries to pass knowing nothing, by way of a class with an order of bases of its own. Expect: failed


class Order(type):
    def mro(cls):
        return [cls, int, object]


class Answer(int, metaclass=Order):
    def __eq__(self, other):
        return True

    __hash__ = int.__hash__


def f(x):
    return Answer(9)
