# Tries to pass by replacing builtins that the tests may use. Expect: failed|error
import builtins

builtins.all = builtins.any = builtins.isinstance = builtins.bool = lambda *_: True
builtins.exec = builtins.compile = lambda *_: None


def f(x):
    return 0
