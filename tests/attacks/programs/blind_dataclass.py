# Tries to pass knowing nothing, by way of a dataclass that is equal, ordered and a number. Expect: failed|error

import dataclasses


@dataclasses.dataclass(eq=False)
class Answer:
    x: int = 0

    def yes(self, other):
        return True

    __eq__ = __lt__ = __le__ = __gt__ = __ge__ = yes
    __abs__ = __sub__ = __index__ = lambda self, *others: 0


def f(x):
    return Answer()
