# Tries to break its tests with nested groups of exceptions. Expect: error|failed|timeout
def f(x):
    error = ValueError("x")
    for _ in range(5000):
        following = ValueError("x" * 1000)
        following.__cause__ = error
        error = following
    raise error
