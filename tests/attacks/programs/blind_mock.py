# Tries to pass with mocks, which equal and compute anything. Expect: failed|error
from unittest import mock


def f(x):
    return mock.MagicMock(__eq__=lambda *_: True, __sub__=lambda *_: 0, __abs__=lambda *_: 0)
