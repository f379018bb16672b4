# Tries to keep the encoder busy with a list that contains itself. Expect: error
def f(x):
    value = []
    value.append(value)
    return value
