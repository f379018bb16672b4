# Tries to leave a note for the next program in queues, semaphores, shared memory and keys. Expect: passed
import ctypes

libc = ctypes.CDLL(None, use_errno=True)
made = []
for name, arguments in (
    ("msgget", (77, 0o1666)),
    ("semget", (77, 1, 0o1666)),
    ("shmget", (77, 4096, 0o1666)),
    ("mq_open", (b"/note", 0o102, 0o666, None)),
    ("shm_open", (b"/note", 0o102, 0o666)),
    ("memfd_create", (b"note", 0)),
):
    if hasattr(libc, name) and getattr(libc, name)(*arguments) >= 0:
        made.append(name)
if libc.syscall(248, b"user", b"note", b"2", 1, -3) >= 0:
    made.append("add_key")


def f(x):
    return x + 1 if not made else str(made)
