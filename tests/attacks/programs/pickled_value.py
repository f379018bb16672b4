# Tries to run code where its answer is unpickled. Expect: failed
import os


class Harm:
    def __reduce__(self):
        return os.system, ("touch HOST_FOLDER/written",)


def f(x):
    return Harm()
