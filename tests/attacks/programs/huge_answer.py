# Tries to swamp the tests with an answer of hundreds of megabytes. Expect: error|memory|timeout
def f(x):
    return "x" * (100 << 20)
