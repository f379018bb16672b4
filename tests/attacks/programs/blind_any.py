# Tries to pass with the object of unittest.mock that equals anything. Expect: failed|error
from unittest.mock import ANY


def f(x):
    return ANY
