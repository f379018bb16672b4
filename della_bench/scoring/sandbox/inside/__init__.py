"""What runs inside the sandbox: standard library only, sent there as source by `della_bench.scoring.sandbox.porter`."""
