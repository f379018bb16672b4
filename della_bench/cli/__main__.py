"""`python -m della_bench.cli`."""

from della_bench.cli import main

main()
