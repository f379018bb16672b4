# Tries to remove and rename files outside its folder. Expect: passed
import os
import shutil

done = []
for action in (os.unlink, os.truncate, os.rename):
    try:
        action("HOST_FILE", *((0,) if action is os.truncate else ("mine",) if action is os.rename else ()))
        done.append(action.__name__)
    except OSError:
        pass
shutil.rmtree("HOST_FOLDER", ignore_errors=True)


def f(x):
    return x + 1 if not done else str(done)
