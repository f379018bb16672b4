# Tries to wait for ever for what never comes. Expect: timeout
import select


def f(x):
    select.select([], [], [], 1000)
