# Tries to compute for ever where no signal is handled. Expect: timeout|memory
x = 7**10000000
while True:
    x = x * x
