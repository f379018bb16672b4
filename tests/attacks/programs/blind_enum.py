# Tries to pass with a member of an enumeration that equals anything. Expect: failed|error
import enum


class Number(enum.IntEnum):
    ONE = 1

    def __eq__(self, other):
        return True

    def __hash__(self):
        return 1


def f(x):
    return Number.ONE
