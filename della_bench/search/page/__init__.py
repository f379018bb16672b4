"""A search as one HTML file: who was tried, what became of them, and which keys matter. It asks for nothing else."""

from della_bench.search.page.write import write_page

__all__ = ["write_page"]
