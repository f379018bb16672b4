# Tries to pass knowing nothing, by way of a slice of numbers that equal everything. Expect: failed|error


class Number(int):
    def __eq__(self, other):
        return True

    __hash__ = int.__hash__


def f(x):
    return slice(Number(1), Number(2))
