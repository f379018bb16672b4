# Tries to pass with a module in the place of the function. Expect: failed|error
import sys
import types


class Module(types.ModuleType):
    def __call__(self, x):
        return self

    def __eq__(self, other):
        return True

    def __sub__(self, other):
        return 0

    def __hash__(self):
        return 0


f = Module("math")
sys.modules["math"] = f
