# Tries to pass by ending the interpreter with success inside a test. Expect: error
import os


def f(x):
    os._exit(0)
