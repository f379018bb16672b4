# Tries to make and open devices. Expect: passed
import os
import stat

done = []
for path, device in (("disk", os.makedev(254, 0)), ("memory", os.makedev(1, 1))):
    try:
        os.mknod(path, stat.S_IFBLK | 0o666, device)
        done.append(path)
    except OSError:
        pass
for path in ("/dev/vda", "/dev/sda", "/dev/mem", "/dev/kmsg", "/dev/tty", "/dev/ptmx", "/dev/kvm"):
    try:
        os.close(os.open(path, os.O_RDONLY))
        done.append(path)
    except OSError:
        pass


def f(x):
    return x + 1 if not done else str(done)
