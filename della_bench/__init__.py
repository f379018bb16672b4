"""Merge language models on the fly, in memory, and evaluate the merge with lm-evaluation-harness."""

__version__ = "0.1.0"
