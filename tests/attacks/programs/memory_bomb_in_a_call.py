# Tries to take all memory inside a test, and to go on when it fails. Expect: memory|timeout|error|passed
def f(x):
    chunks = []
    for _ in range(64):
        try:
            while len(chunks) < 4096:
                chunks.append(bytearray(1 << 20))
        except MemoryError:
            continue
    return x + 1 if len(chunks) < 4096 else "no limit"
