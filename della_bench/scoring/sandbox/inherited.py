"""Hard limits that this process has inherited: what programs can have at most, and what a message should name."""

from __future__ import annotations

import logging
import resource
from dataclasses import replace

from della_bench.errors import SandboxError
from della_bench.scoring.sandbox.types import Limits

__all__ = ["advice", "within"]

log = logging.getLogger(__name__)

# Field of Limits: the limit, what people call it, the shell's option, and the least that a sandbox works with.
_LIMITS: dict[str, tuple[int, str, str, int]] = {
    "memory_bytes": (resource.RLIMIT_AS, "the address space of a process", "-v", 200 << 20),
    "file_bytes": (resource.RLIMIT_FSIZE, "the size of a file", "-f", 1 << 16),
    "open_files": (resource.RLIMIT_NOFILE, "open files", "-n", 40),
    "threads": (resource.RLIMIT_NPROC, "processes and threads of a user", "-u", 16),
}
_ENOUGH_PROCESSES = 256  # below that, other processes of the same user may leave too few


def within(limits: Limits, *, say: bool = True) -> Limits:
    """Return `limits`, lowered where a hard limit of this process is lower; `say` logs each such.

    Raises SandboxError where a hard limit is too low for any sandbox.
    """
    lower: dict[str, int] = {}
    for field, (which, name, option, least) in _LIMITS.items():
        hard = resource.getrlimit(which)[1]
        if hard == resource.RLIM_INFINITY or hard >= getattr(limits, field):
            continue
        if hard < least:
            raise SandboxError(
                f"the hard limit on {name} (ulimit -H {option}) is {hard}: no sandbox works with less than {least}; "
                "raise it where this process is started"
            )
        if say:
            asked = getattr(limits, field)
            log.warning("programs get %d, not %d: the hard limit on %s (ulimit -H %s)", hard, asked, name, option)
        lower[field] = hard
    return replace(limits, **lower)


def advice() -> str:
    """Return what to say beside a failure that a lack of processes may explain; nothing where there is no such lack."""
    hard = resource.getrlimit(resource.RLIMIT_NPROC)[1]
    if hard == resource.RLIM_INFINITY or hard >= _ENOUGH_PROCESSES:
        return ""
    return f" (the hard limit on processes and threads of this user, ulimit -H -u, is {hard})"
