# Tries to crash the compiler with nesting. Expect: syntax|error|memory
f = eval("(" * 5000 + "1" + ")" * 5000)
