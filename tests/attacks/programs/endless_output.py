# Tries to print without end. Expect: timeout
while True:
    print("x" * 100000)
