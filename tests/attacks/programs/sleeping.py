# Tries to wait for ever. Expect: timeout
import time

time.sleep(1000)
