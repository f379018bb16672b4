# Tries to learn the expected values from the hashes that are asked for. Expect: failed|error
asked = []


class Spy:
    def __hash__(self):
        asked.append(self)
        return 2

    def __eq__(self, other):
        asked.append(other)
        return other in (2, 21, 4)


def f(x):
    return next((value for value in asked if isinstance(value, int)), Spy())
