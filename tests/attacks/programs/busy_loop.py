# Tries to compute for ever. Expect: timeout
while True:
    pass
