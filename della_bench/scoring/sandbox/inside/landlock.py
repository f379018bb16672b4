"""Landlock: a process gives up, for itself and its children, the files, ports and peers that it does not name."""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterable

from della_bench.scoring.sandbox.inside.system import syscall

__all__ = ["NEEDED_VERSION", "restrict", "version"]

CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446  # the same on every architecture
ASK_VERSION, PATH_BENEATH = 1, 1
NEEDED_VERSION = 6  # Linux 6.12: signals and abstract sockets can be kept in

EVERY_FILE_RIGHT = (1 << 16) - 1  # version 5 and later
EVERY_PORT_RIGHT = 0b11
EVERY_SCOPE = 0b11
READ_FILE, READ_FOLDER, WRITE_FILE, TRUNCATE = 1 << 2, 1 << 3, 1 << 1, 1 << 14
MAKE_FILE, MAKE_LINK = 1 << 8, 1 << 12
# In the working folder files and symbolic links come and do not go, and there are no folders: whoever counts them sees
# them all.
WORKING = READ_FILE | READ_FOLDER | WRITE_FILE | TRUNCATE | MAKE_FILE | MAKE_LINK


def version() -> int:
    """Return the version of the kernel's Landlock; 0 where it has none or it is switched off."""
    try:
        return syscall("landlock_create_ruleset", CREATE_RULESET, None, 0, ASK_VERSION)
    except OSError:
        return 0


def restrict(readable: Iterable[str], devices: Iterable[str], working: str) -> None:
    """Restrict this process to reading below `readable`, to `devices`, and to making files in the folder `working`."""
    attributes = struct.pack("QQQ", EVERY_FILE_RIGHT, EVERY_PORT_RIGHT, EVERY_SCOPE)
    ruleset = syscall("landlock_create_ruleset", CREATE_RULESET, ctypes.c_char_p(attributes), len(attributes), 0)
    try:
        for path in readable:
            _allow(ruleset, path, READ_FILE | READ_FOLDER if os.path.isdir(path) else READ_FILE)
        for path in devices:
            _allow(ruleset, path, READ_FILE | WRITE_FILE)
        _allow(ruleset, working, WORKING)
        syscall("landlock_restrict_self", RESTRICT_SELF, ruleset, 0)
    finally:
        os.close(ruleset)


def _allow(ruleset: int, path: str, rights: int) -> None:
    place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        rule = ctypes.c_char_p(struct.pack("=Qi", rights, place))
        syscall("landlock_add_rule", ADD_RULE, ruleset, PATH_BENEATH, rule, 0)
    finally:
        os.close(place)
