# Tries to pass with an integer of its own class that equals anything. Expect: failed
class Number(int):
    def __eq__(self, other):
        return True

    def __sub__(self, other):
        return 0

    __rsub__ = __sub__
    __hash__ = int.__hash__


def f(x):
    return Number(0)
