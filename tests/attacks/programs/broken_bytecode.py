# Tries to crash the interpreter inside a test with invalid bytecode. Expect: error
def f(x):
    return x


f.__code__ = f.__code__.replace(co_code=b"\x64\xff" * 64 + b"\xfd\x00" * 64, co_stacksize=1)
