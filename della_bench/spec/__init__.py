"""The spec of a merge: parsed from any of its forms, checked in one place, printed in one canonical form."""

from della_bench.spec.keys import KEYS, OTHER_NAMES
from della_bench.spec.method import Method, Numbers
from della_bench.spec.model import MergeSpec
from della_bench.spec.option import Option
from della_bench.spec.source import Source

__all__ = ["KEYS", "OTHER_NAMES", "MergeSpec", "Method", "Numbers", "Option", "Source"]
