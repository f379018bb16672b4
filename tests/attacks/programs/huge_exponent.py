# Tries to keep its tests busy with a decimal of a huge exponent. Expect: failed|error|timeout|memory
from decimal import Decimal


def f(x):
    return Decimal("1e999999999")
