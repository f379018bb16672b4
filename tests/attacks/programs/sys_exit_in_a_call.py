# Tries to pass by raising SystemExit(0) inside a test. Expect: error
import sys


def f(x):
    sys.exit(0)
