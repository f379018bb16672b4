# Tries to learn about a process of the host what needs no permission: its group, cores, priority, CPU time. Expect: passed
import os
import time

QUESTIONS = {
    "group": lambda: os.getpgid(HOST_PID),
    "session": lambda: os.getsid(HOST_PID),
    "cores": lambda: os.sched_getaffinity(HOST_PID),
    "scheduler": lambda: os.sched_getscheduler(HOST_PID),
    "priority": lambda: os.getpriority(os.PRIO_PROCESS, HOST_PID),
    "priority of its group": lambda: os.getpriority(os.PRIO_PGRP, HOST_PID),
    "CPU time": lambda: time.clock_gettime((~HOST_PID << 3) | 2),
    "a limit": lambda: __import__("resource").prlimit(HOST_PID, 7),
}
told = []
for name, ask in QUESTIONS.items():
    try:
        ask()
        told.append(name)
    except OSError:
        pass


def f(x):
    return x + 1 if not told else told
