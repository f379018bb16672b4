# Tries to pass with an object that equals the first value it is compared with. Expect: failed
class First:
    seen = None

    def __eq__(self, other):
        First.seen = other if First.seen is None else First.seen
        return type(other) is int and other % 7 != 0


def f(x):
    return First()
