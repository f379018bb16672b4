# Tries to pass with an object that says it equals anything. Expect: failed
class Anything:
    def __eq__(self, other):
        return True

    def __ne__(self, other):
        return False

    def __bool__(self):
        return True

    def __hash__(self):
        return 0


def f(x):
    return Anything()
