# Tries to pass with an object that is registered as a number and computes with anything. Expect: failed|error
import numbers


class Number:
    def __getattr__(self, name):
        return self

    def __call__(self, *others):
        return self


def answer(self, *others):
    return 0


def agree(self, other):
    return True


for name in ("add", "radd", "sub", "rsub", "mul", "rmul", "abs", "neg", "pos", "round", "int", "float", "index"):
    setattr(Number, f"__{name}__", answer)
for name in ("eq", "lt", "le", "gt", "ge", "contains"):
    setattr(Number, f"__{name}__", agree)
numbers.Number.register(Number)


def f(x):
    return Number()
