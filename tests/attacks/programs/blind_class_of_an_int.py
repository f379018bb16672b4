# Tries to pass knowing nothing, by way of an object that says its class is int. Expect: failed|error


class Answer:
    __class__ = property(lambda self: int)

    def __eq__(self, other):
        return True

    def __index__(self):
        return 2

    __int__ = __abs__ = __index__

    def __getattribute__(self, name):
        return int if name == "__class__" else lambda *others: True


def f(x):
    return Answer()
