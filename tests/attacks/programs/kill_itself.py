# Tries to die by a signal. Expect: error|memory
import os
import signal

os.kill(os.getpid(), signal.SIGKILL)
