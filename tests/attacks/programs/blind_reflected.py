# Tries to be asked first in a comparison, as a subclass is. Expect: failed|error
class Own(int):
    def __req__(self, other):
        return True

    def __rsub__(self, other):
        return 0

    def __eq__(self, other):
        return True

    def __hash__(self):
        return 2


class Deeper(Own):
    pass


def f(x):
    return Deeper(0)
