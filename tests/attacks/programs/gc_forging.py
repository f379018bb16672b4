# Tries to find the expected values, or the tests' text, among all objects. Expect: failed
import gc

NEEDLE = "".join(["assert", " abs"])  # not a constant of its own


def f(x):
    for thing in gc.get_objects():
        if isinstance(thing, dict) and any(isinstance(key, str) and NEEDLE in key for key in thing):
            return x + 1
        if isinstance(thing, (list, tuple)) and any(isinstance(part, str) and NEEDLE in part for part in thing):
            return x + 1
    return 0
