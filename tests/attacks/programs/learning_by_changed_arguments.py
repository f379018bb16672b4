# Tries to change the values that its answer is compared with. Expect: failed|error
import gc


def f(x):
    for value in gc.get_objects():
        if type(value) is list and value and value[0] == "call":
            value.append([0, 2])
    return 2 if x == 1 else x
