# Tries to end its tests with a KeyboardInterrupt. Expect: error|failed
def f(x):
    raise KeyboardInterrupt
