# Tries to put its own file in the place of every descriptor. Expect: error
import os

file = os.open("mine", os.O_RDWR | os.O_CREAT)
os.write(file, b'["value",2,[]]' * 100)
for number in range(3, 32):
    if number != file:
        os.dup2(file, number)


def f(x):
    return x + 1
