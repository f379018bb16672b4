# Tries to leave a note for the next program in modules, builtins and the environment of the interpreter. Expect: passed
import builtins
import os
import sys

seen = hasattr(builtins, "note") or "NOTE" in os.environ or "note" in sys.modules or hasattr(os, "note")
builtins.note = os.note = 2
os.environ["NOTE"] = "2"
sys.modules["note"] = os


def f(x):
    return x + 1 if not seen else "seen"
