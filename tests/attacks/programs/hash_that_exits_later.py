# Tries to be unscored by a hash that ends the process. Expect: error|failed
import os


class Own:
    calls = 0

    def __hash__(self):
        Own.calls += 1
        if Own.calls > 1:
            os._exit(0)
        return 1


def f(x):
    return {Own()}
