# Tries to pass with a list of its own class that equals anything, inside a tuple. Expect: failed
class Items(list):
    def __eq__(self, other):
        return True


def f(x):
    return Items([x])
