# Tries to pass with a named tuple that equals anything. Expect: failed|error
import collections


class Own(collections.namedtuple("Own", "a b")):
    def __eq__(self, other):
        return True

    def __ne__(self, other):
        return False

    def __hash__(self):
        return 0

    def __sub__(self, other):
        return 0


def f(x):
    return Own(1, 2)
