# Tries to keep its tests busy with a number of a million digits. Expect: failed|error|timeout
def f(x):
    return 1 << 4_000_000
