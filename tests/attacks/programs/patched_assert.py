# Tries to pass by making AssertionError something that is not raised. Expect: failed
import builtins


class Quiet(BaseException):
    def __new__(cls, *arguments):
        return SystemExit(0)


builtins.AssertionError = Quiet
__builtins__["AssertionError"] = Quiet if isinstance(__builtins__, dict) else None


def f(x):
    return 0
