# Tries to have whoever counts its files change the mode of a folder of the host by a link to it. Expect: passed
import os
import time

for name, path in {"folder": "HOST_FOLDER", "home": "HOST_HOME", "top": "/"}.items():
    os.symlink(path, name)
time.sleep(0.2)


def f(x):
    return x + 1
