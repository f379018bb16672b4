# Tries to break what is written down with halves of characters. Expect: failed|error
def f(x):
    raise ValueError("\ud800" * 100)
