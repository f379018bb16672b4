# Tries to take all memory. Expect: memory
chunks = []
for _ in range(4096):
    chunks.append(bytearray(1 << 20))
