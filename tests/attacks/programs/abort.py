# Tries to crash the interpreter by aborting. Expect: error
import os

os.abort()
