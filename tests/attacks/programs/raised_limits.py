# Tries to raise its limits and lower its parent's. Expect: passed
import os
import resource

done = []
for which in (resource.RLIMIT_CPU, resource.RLIMIT_AS, resource.RLIMIT_FSIZE, resource.RLIMIT_NOFILE):
    try:
        resource.setrlimit(which, (1 << 40, 1 << 40))
        done.append(which)
    except (OSError, ValueError):
        pass
for process in (os.getppid(), 1, HOST_PID):
    if process:
        try:
            resource.prlimit(process, resource.RLIMIT_CPU, (1, 1))
            done.append(process)
        except OSError:
            pass


def f(x):
    return x + 1 if not done else str(done)
