# Tries to end with success from the hooks for uncaught exceptions. Expect: error
import os
import sys

sys.excepthook = sys.unraisablehook = lambda *_: os._exit(0)
raise AssertionError
