# Tries to leave a file, a module and a variable for the next program. Expect: passed
import os
import sys

left = os.path.exists("message") or "message_for_the_next" in sys.modules or "MESSAGE" in os.environ
open("message", "w").close()
sys.modules["message_for_the_next"] = sys
os.environ["MESSAGE"] = "here"


def f(x):
    return x + 1 if not left else "a message"
