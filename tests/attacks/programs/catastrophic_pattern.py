# Tries to compute for ever in a regular expression. Expect: timeout
import re

re.match(r"(a+)+$", "a" * 64 + "b")
