# Tries to hide builtins that its tests use behind functions of its own. Expect: failed
def abs(x):
    return 0


def len(x):
    return 0


def f(x):
    return 0
