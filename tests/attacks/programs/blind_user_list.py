# Tries to pass with a wrapper of a list that equals anything. Expect: failed|error
import collections


class Own(collections.UserList):
    def __eq__(self, other):
        return True

    def __ne__(self, other):
        return False

    def __hash__(self):
        return 0

    __sub__ = lambda self, other: 0


def f(x):
    return Own()
