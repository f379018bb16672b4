"""The leaderboard as one HTML file: table, plots, and the samples behind every number. It asks for nothing else."""

from della_bench.results.page.limits import Limits
from della_bench.results.page.write import write_page

__all__ = ["Limits", "write_page"]
