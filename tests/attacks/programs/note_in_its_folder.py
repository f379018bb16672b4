# Tries to leave a note for the next program in the folder that it works in. Expect: passed
import os

seen = os.listdir(".")
with open("note", "w") as file:
    file.write("2")


def f(x):
    return x + 1 if not seen else str(seen)
