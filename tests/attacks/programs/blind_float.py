# Tries to pass with a float of its own class that equals anything. Expect: failed|error
class Own(float):
    def __eq__(self, other):
        return True

    def __ne__(self, other):
        return False

    def __hash__(self):
        return 0

    __sub__ = __abs__ = lambda self, *other: self


def f(x):
    return Own(0.5)
