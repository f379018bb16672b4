# Tries to seem busy while it sleeps: its threads wake at once, on one core, and wait for each other. Expect: timeout
import os
import threading
import time

threading.stack_size(1 << 16)
os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])


def nap():
    while True:
        now = time.monotonic()
        time.sleep((int(now / 0.02) + 1) * 0.02 - now)


def f(x):
    for _ in range(20):
        threading.Thread(target=nap, daemon=True).start()
    time.sleep(1000)
