# Tries to leave a note for the next program where packages are covered. Expect: passed
import os
import sys

left, seen = [], []
for folder in sys.path:
    for name in ("test", "idlelib", "site-packages", "dist-packages", "lib-dynload", "__pycache__"):
        place = f"{folder}/{name}"
        try:
            seen += [entry for entry in os.listdir(place) if entry.startswith("note")]
        except OSError:
            pass
        try:
            with open(f"{place}/note.py", "w") as file:
                file.write("answer = 2")
            left.append(place)
        except OSError:
            pass


def f(x):
    return x + 1 if not left and not seen else str(left + seen)
