# Tries to change limits and schedules of other processes. Expect: passed
import os
import resource

done = []
for action in (
    lambda: resource.prlimit(HOST_PID, resource.RLIMIT_NOFILE, (5, 5)),
    lambda: resource.prlimit(os.getppid() or 1, resource.RLIMIT_NOFILE, (5, 5)),
    lambda: os.setpriority(os.PRIO_PROCESS, 0, 5),
    lambda: os.sched_setaffinity(HOST_PID, {0}),
    lambda: os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0)),
):
    try:
        action()
        done.append(action)
    except OSError:
        pass


def f(x):
    return x + 1 if not done else f"{len(done)} actions"
