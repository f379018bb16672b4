# Tries to keep the tests busy with a hundred thousand keys of one hash. Expect: failed|timeout|error
def f(x):
    return dict.fromkeys((2**61 - 1) * number for number in range(1, 4000))
