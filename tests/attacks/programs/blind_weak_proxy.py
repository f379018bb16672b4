# Tries to pass with a proxy of an object that equals anything. Expect: failed|error
import weakref


class Anything:
    def __eq__(self, other):
        return True

    def __sub__(self, other):
        return 0

    def __hash__(self):
        return 0


kept = Anything()


def f(x):
    return weakref.proxy(kept)
