# Tries to pass with a class whose metaclass says that it equals anything. Expect: failed
class Meta(type):
    def __eq__(cls, other):
        return True

    def __hash__(cls):
        return 0


class Anything(metaclass=Meta):
    pass


def f(x):
    return Anything
