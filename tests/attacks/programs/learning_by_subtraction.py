# Tries to learn the expected value from what is subtracted from its answer. Expect: failed|error
learned = []


class Spy:
    def __sub__(self, other):
        learned.append(other)
        return 0

    def __eq__(self, other):
        learned.append(other)
        return True

    def __hash__(self):
        return 0


def f(x):
    return learned[-1] if learned else Spy()
