"""Untrusted programs, run apart from the machine and judged apart from themselves.

    outcomes = run([Program("601", code, ("assert f(2) == 4",))])

**Who decides.** The candidate runs in one process, its tests in another, in a sandbox of their own. What the tests know
as the candidate's functions are proxies: a call sends its arguments over a socket in a closed encoding that cannot
carry code, and the candidate answers with a value. So a candidate can answer, but not exit, print, patch or trace its
way to `passed`. What it returns that is no plain value stays with it as a handle: attributes, items and calls are
forwarded.

**What remains.** An object of the candidate's own class says itself what it equals. Such a comparison is put among
comparisons with decoys in random order: an object that equals a decoy too is found out and the program fails; the
explanation of a program that passes with such an object says so. Truth, length and order of a handle are the
candidate's word. With `in_one_namespace` a candidate that redefines a builtin which its tests use (`set`, `abs`)
decides what that builtin says to them, as in bigcode-evaluation-harness.
"""

from della_bench.scoring.sandbox.levels import find_level
from della_bench.scoring.sandbox.pool import run
from della_bench.scoring.sandbox.types import VERDICTS, Level, LevelName, Limits, Outcome, Program, Verdict

__all__ = ["VERDICTS", "Level", "LevelName", "Limits", "Outcome", "Program", "Verdict", "find_level", "run"]
