# Tries to be unscored by a hash that fails where its set is taken apart. Expect: error|failed
class Own:
    calls = 0

    def __hash__(self):
        Own.calls += 1
        if Own.calls > 1:
            raise ValueError("no more")
        return 1


def f(x):
    return {Own()}
