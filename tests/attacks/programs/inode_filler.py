# Tries to use up the file system with empty files. Expect: passed
import os

made = 0
try:
    for number in range(5000):
        os.close(os.open(f"file{number}", os.O_CREAT | os.O_WRONLY))
        made += 1
except OSError:
    pass


def f(x):
    return x + 1
