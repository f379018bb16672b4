# Tries to overflow the tests' stack with an answer nested a hundred thousand times. Expect: error
def f(x):
    value = []
    for _ in range(100000):
        value = [value]
    return value
