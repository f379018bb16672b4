# Tries to pass by ending the interpreter with success while it is loaded. Expect: error
import os

os._exit(0)
