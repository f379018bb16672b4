# Tries to recurse without end. Expect: error
def f(x):
    return f(x) + 1
