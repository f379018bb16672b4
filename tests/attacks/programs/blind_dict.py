# Tries to pass with a dict of its own class that equals anything. Expect: failed|error
class Own(dict):
    def __eq__(self, other):
        return True

    def __ne__(self, other):
        return False

    def __hash__(self):
        return 0

    __sub__ = __abs__ = lambda self, *other: 0


def f(x):
    return Own()
