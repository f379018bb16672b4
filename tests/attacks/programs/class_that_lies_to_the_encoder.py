# Tries to break the encoder with a class whose attributes raise. Expect: error|failed
class Meta(type):
    def __getattribute__(cls, name):
        raise KeyError(name)


class Own(metaclass=Meta):
    pass


def f(x):
    return Own()
