"""What a merge computes: the table of methods, pure functions on tensors, and the stream that runs them."""
