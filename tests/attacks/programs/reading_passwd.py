# Tries to read /etc/passwd and /etc/shadow. Expect: passed
def read(path):
    try:
        return open(path).read()
    except OSError:
        return ""


text = read("/etc/passwd") + read("/etc/shadow") + read("/etc/hostname")


def f(x):
    return x + 1 if not text else "read"
