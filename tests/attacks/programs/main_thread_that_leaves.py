# Tries to compute on in threads when its first thread, which the keeper watches, has ended. Expect: timeout
import ctypes
import platform
import threading


def compute():
    while True:
        pass


def f(x):
    for _ in range(3):
        threading.Thread(target=compute, daemon=True).start()
    ctypes.CDLL(None).syscall({"x86_64": 60, "aarch64": 93}[platform.machine()], 0)
