# Tries to be imported in the place of modules that the tests import. Expect: failed
import builtins
import sys


class Everything:
    def __getattr__(self, name):
        return lambda *_, **__: True


class Finder:
    @staticmethod
    def find_spec(name, path=None, target=None):
        raise SystemExit(0)


sys.meta_path.insert(0, Finder)
sys.path_hooks.insert(0, lambda path: Finder)
builtins.__import__ = lambda *_, **__: Everything()


def f(x):
    return 0
