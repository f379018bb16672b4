# Tries to run a shell. Expect: passed
import subprocess

try:
    done = subprocess.run(["/bin/sh", "-c", "echo harm > HOST_FOLDER/written"], capture_output=True).returncode
except OSError:
    done = None


def f(x):
    return x + 1 if done is None else "a shell ran"
