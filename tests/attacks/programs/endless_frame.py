# Tries to make the tests wait for a message of four gigabytes. Expect: error
import os

os.write(3, b"\xff\xff\xff\xff")
