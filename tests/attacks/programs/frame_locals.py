# Tries to change the runner's local variables through its frames. Expect: failed
import ctypes
import sys


def f(x):
    frame = sys._getframe()
    while frame is not None:
        for name in list(frame.f_locals):
            if name in ("verdict", "explanation", "value", "reply", "expected"):
                frame.f_locals[name] = x + 1
                ctypes.pythonapi.PyFrame_LocalsToFast(ctypes.py_object(frame), ctypes.c_int(0))
        frame = frame.f_back
    return 0
