"""Untrusted programs, run apart from the machine and judged apart from themselves.

    outcomes = run([Program("601", code, ("assert f(2) == 4",))])

**Who decides.** The candidate runs in one process, its tests in another, in a sandbox of their own. What the tests know
as the candidate's functions are proxies: a call sends its arguments over a socket in a closed encoding that cannot
carry code, and the candidate answers with a value. So a candidate can answer, but not exit, print, patch or trace its
way to `passed`. What the tests compare, they compare as plain values on their own side; the candidate never sees what
its answer is compared with. An instance of a subclass of a builtin type or standard container counts as the plain
value. Any other object stays with the candidate as a handle, which equals no plain value, is no number, contains
nothing and has no order.

**Its own word.** Where a test asks such an object itself (its attribute, method, item, length, text or truth, or
whether it equals another object of the candidate's), the answer is the candidate's word. Such a verdict is marked: see
`Outcome.own_word`, and `by_its_own_word` in a score.

**No program is unscored by its own doing.** Whatever it sends or raises ends in a verdict. When a sandbox fails all the
same, a program known to be right is run in it; if that passes, the failing program is at fault (`error`). `sandbox`
remains for faults that any program would have.

What is promised at the levels `bubblewrap` and `namespaces`:
- no file of the machine but the interpreter and its standard library can be read, and none can be written;
- no process, network, socket, terminal or user of the machine can be reached;
- programs share nothing that they can write to: every mount is read-only but a program's own folder, which is made for
  it, bounded in bytes and in files, and gone with it; locks, leases, watches and kernel objects are refused;
- system calls are refused unless CPython needs them, unknown numbers included;
- CPU time, idle time, memory, files, threads, processes and output are limited (`Limits`), and a program's end is the
  end of all that it started, also when this process is killed.

`landlock`, for machines without user namespaces, is weaker. It lets out the machine's name and the metadata of paths:
whether a file exists, its size, times and owner, and who may read it. Numbers of processes and files go on from one
program to the next, and so tell how many there were. Reading a file of the standard library may change its access time.
Files in the working folder are looked at every 20 ms and the program is ended when there are too many, so there may
briefly be more bytes than allowed; nothing can be removed or renamed there, and no folders can be made. Where this
process may not change its user, threads are counted with those of all its user's processes. A folder that a killed run
left below the one for temporary files is removed by the next run.

`none` (`--allow-unsafe`) has limits only: a program can do what its user can.

At all levels: a bug of the kernel is not held; programs can signal each other slowly, by how busy they keep the
machine, which pages of the standard library are in memory, and the numbers that the kernel gives to pipes in turn; what
a program prints, and the text of its exceptions, is in the results. With `in_one_namespace` a candidate that redefines
a builtin or helper which its tests use decides what it says to them, as in bigcode-evaluation-harness.
"""

from della_bench.scoring.sandbox.levels import find_level
from della_bench.scoring.sandbox.pool import run
from della_bench.scoring.sandbox.types import VERDICTS, Level, LevelName, Limits, Outcome, Program, Verdict

__all__ = ["VERDICTS", "Level", "LevelName", "Limits", "Outcome", "Program", "Verdict", "find_level", "run"]
