# Tries to swamp its tests with the name of a class. Expect: error|failed|memory
def f(x):
    return type("x" * 50_000_000, (), {})()
