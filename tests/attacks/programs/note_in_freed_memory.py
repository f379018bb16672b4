# Tries to find the source of the program before it in what its process inherited of memory. Expect: passed
import ctypes
import gc
import os

libc = ctypes.CDLL(None)
libc.sbrk.restype = ctypes.c_void_p
PAGE, NEIGHBOURHOOD = 4096, 1 << 20
reading, writing = os.pipe()


def readable(address):
    if libc.write(writing, ctypes.c_void_p(address), 1) != 1:
        return False
    return bool(os.read(reading, 1))


def pages():
    for start in {id(thing) // NEIGHBOURHOOD * NEIGHBOURHOOD for thing in gc.get_objects()}:
        yield from filter(readable, range(start, start + NEIGHBOURHOOD, PAGE))
    address = (libc.sbrk(0) - 1) // PAGE * PAGE
    while readable(address):
        yield address
        address -= PAGE


# Every program of these begins with a line such as the first one here. It is spelt backwards, so as not to be found.
mark, own = bytes(reversed(b" seirT #")), b"find the source of the program before it"
seen = False
for page in pages():
    text = ctypes.string_at(page, PAGE)
    at = text.find(mark)
    while 0 <= at < PAGE - 100:
        seen = seen or (text[at + 8 : at + 11] == b"to " and own not in text[at : at + 100])
        at = text.find(mark, at + 1)


def f(x):
    return x + 1 if not seen else "seen"
