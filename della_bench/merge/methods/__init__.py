"""Merge methods that are functions of their own, one a file; `della_bench.spec` has their rows and names them."""
