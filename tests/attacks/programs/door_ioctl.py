# Tries to change flags of files and type into terminals by ioctl. Expect: passed
import fcntl
import os
import termios

done = []
for path in (os.__file__, "HOST_FILE", ".", "/dev/null"):
    try:
        file = os.open(path, os.O_RDONLY)
    except OSError:
        continue
    for request in (0x40086602, 0x401C5820, termios.TIOCSTI, 0x40049409, 0xC0045878, 0x5452, 0x8901):
        try:
            fcntl.ioctl(file, request, b"x" * 64)
            done.append((path, request))
        except OSError:
            pass


def f(x):
    return x + 1 if not done else str(done)
