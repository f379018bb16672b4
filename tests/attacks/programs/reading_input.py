# Tries to wait for input. Expect: error
input()
