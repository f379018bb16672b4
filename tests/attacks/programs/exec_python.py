# Tries to become another program that knows nothing of the limits. Expect: error
import os
import sys

os.execv(sys.executable or "/usr/bin/python3", ["python", "-c", "while True: pass"])
