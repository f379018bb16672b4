# Tries to have the tests decode a reference to a function of theirs. Expect: error
import os


def f(x):
    for message in (b'["value",["type","os.system"],[]]', b'["value",["c",0,false],[]]'):
        os.write(3, len(message).to_bytes(4, "big") + message)
