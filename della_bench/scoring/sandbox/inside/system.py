"""The system calls that Python has no name for, by ctypes; each raises OSError with the kernel's reason."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal

__all__ = [
    "CAP_SYS_ADMIN",
    "CLONE_NEWCGROUP",
    "CLONE_NEWIPC",
    "CLONE_NEWNET",
    "CLONE_NEWNS",
    "CLONE_NEWPID",
    "CLONE_NEWUSER",
    "CLONE_NEWUTS",
    "MS_BIND",
    "MS_NODEV",
    "MS_NOSUID",
    "MS_PRIVATE",
    "MS_RDONLY",
    "MS_REC",
    "MS_REMOUNT",
    "PR_SET_DUMPABLE",
    "PR_SET_NO_NEW_PRIVS",
    "bind",
    "die_with_parent",
    "drop_capabilities",
    "files_below",
    "hide_memory",
    "keep_one_capability",
    "mount",
    "pivot_root",
    "prctl",
    "read_only",
    "reap_everything",
    "remove_tree",
    "subreaper",
    "syscall",
    "tasks_of_user",
    "umount",
    "unshare",
]

CLONE_NEWNS, CLONE_NEWCGROUP, CLONE_NEWUTS, CLONE_NEWIPC = 0x00020000, 0x02000000, 0x04000000, 0x08000000
CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET = 0x10000000, 0x20000000, 0x40000000
MS_NOEXEC, MS_NOATIME_AND_LIKE = 8, 1024 | 2048
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = 1, 2, 4, 32, 4096, 16384, 1 << 18
MNT_DETACH = 2

PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_CAPBSET_DROP, PR_SET_CHILD_SUBREAPER = 1, 4, 24, 36
PR_SET_NO_NEW_PRIVS, PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL = 38, 47, 4
PR_CAP_AMBIENT_RAISE = 2
CAPABILITY_VERSION_3 = 0x20080522
CAP_SYS_ADMIN = 21

_libc = ctypes.CDLL(None, use_errno=True)


def _checked(what: str, result: int) -> int:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")
    return result


def syscall(what: str, number: int, *arguments: object) -> int:
    """Make system call `number`; `what` names it in errors. Integers are passed as longs."""
    plain = [ctypes.c_long(value) if isinstance(value, int) else value for value in arguments]
    return _checked(what, _libc.syscall(ctypes.c_long(number), *plain))


def prctl(option: int, *arguments: object) -> int:
    """prctl(2)."""
    plain = [ctypes.c_ulong(value) if isinstance(value, int) else value for value in arguments]
    plain += [ctypes.c_ulong(0)] * (4 - len(plain))
    return _checked(f"prctl({option})", _libc.prctl(ctypes.c_int(option), *plain))


def unshare(flags: int) -> None:
    """unshare(2)."""
    _checked("unshare", _libc.unshare(ctypes.c_int(flags)))


def mount(source: str, target: str, kind: str | None, flags: int, data: str | None = None) -> None:
    """mount(2)."""
    encoded = [None if text is None else os.fsencode(text) for text in (source, target, kind)]
    _checked(f"mount on {target}", _libc.mount(*encoded, ctypes.c_ulong(flags), data.encode() if data else None))


def umount(target: str) -> None:
    """umount2(2), detaching."""
    _checked(f"umount {target}", _libc.umount2(os.fsencode(target), MNT_DETACH))


def pivot_root(new_root: str, put_old: str) -> None:
    """pivot_root(2)."""
    number = {"x86_64": 155, "aarch64": 41}[os.uname().machine]
    syscall("pivot_root", number, os.fsencode(new_root), os.fsencode(put_old))


def die_with_parent() -> None:
    """Have the kernel kill this process when its parent ends."""
    prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL))


def hide_memory() -> None:
    """Keep processes of the same user from tracing this one and from reading its /proc entries."""
    prctl(PR_SET_DUMPABLE, 0)


def subreaper() -> None:
    """Become the parent of descendants that lose theirs, so that they can be waited for."""
    prctl(PR_SET_CHILD_SUBREAPER, 1)


def drop_capabilities() -> None:
    """Give up every capability, now and over any exec."""
    prctl(PR_SET_NO_NEW_PRIVS, 1)
    for capability in range(64):
        try:
            prctl(PR_CAPBSET_DROP, capability)
        except OSError:  # EINVAL: beyond the kernel's last one. EPERM: without CAP_SETPCAP there is nothing to drop.
            break
    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL)
    _set_capabilities(0)


def keep_one_capability(capability: int) -> None:
    """Give up every capability but one, which an exec keeps."""
    _set_capabilities(1 << capability)
    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, capability)


def _set_capabilities(low: int) -> None:
    """Set the effective, permitted and inheritable capabilities to the bits `low` of the first 32."""
    header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION_3, 0)
    data = (ctypes.c_uint32 * 6)(low, low, low, 0, 0, 0)
    _checked("capset", _libc.capset(header, data))


def reap_everything() -> None:
    """Kill and wait for every child of this process, those that become its children meanwhile included."""
    while True:
        for child in _children():
            try:
                os.kill(child, signal.SIGKILL)
            except ProcessLookupError:
                continue
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return


def _children() -> list[int]:
    mine, children = os.getpid(), []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", "rb") as file:
                    fields = file.read().rpartition(b")")[2].split()
            except OSError:  # it ended meanwhile
                continue
            if int(fields[1]) == mine:
                children.append(int(name))
    return children


def bind(source: str, target: str) -> None:
    """Bind the file or folder `source` on `target`, which is made, with its parents."""
    if os.path.isdir(source):
        os.makedirs(target, exist_ok=True)
    else:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        with open(target, "ab"):
            pass
    mount(source, target, None, MS_BIND | MS_REC)


def read_only(target: str) -> None:
    """Make the bind mount on `target` read-only, keeping the flags that a user namespace may not clear."""
    flags = os.statvfs(target).f_flag & (MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_NOATIME_AND_LIKE)
    mount("none", target, None, MS_REMOUNT | MS_BIND | MS_RDONLY | flags)


def tasks_of_user() -> int:
    """Return how many threads this process's user has, in all its processes."""
    count = 0
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/status", encoding="utf-8", errors="replace") as file:
                    fields = dict(line.split(":", 1) for line in file if ":" in line)
            except OSError:  # it ended meanwhile
                continue
            if int(fields["Uid"].split()[0]) == os.getuid():
                count += int(fields["Threads"])
    return count


def files_below(folder: str) -> tuple[int, int]:
    """Return how many files and folders are below `folder`, and the bytes of all of them."""
    count, size = 0, 0
    for place, names, files in os.walk(folder):
        for name in (*names, *files):
            path = os.path.join(place, name)
            with contextlib.suppress(OSError):  # it went meanwhile
                size += os.lstat(path).st_blocks * 512
                count += 1
    return count, size


def remove_tree(folder: str) -> None:
    """Remove `folder` with everything in it, whatever its permissions and however deep; what cannot be removed stays.

    What is two levels down moves one up, round after round, so that no path grows long.
    """
    count, before = 0, -1
    with contextlib.suppress(OSError):
        os.chmod(folder, 0o700)
        while before != count:
            before = count
            for inner in _emptied(folder):
                for path in _emptied(inner):
                    count += 1
                    os.rename(path, f"{folder}/.removed-{count}")
                count += 1
                os.rmdir(inner)
        os.rmdir(folder)


def _emptied(folder: str) -> list[str]:
    """Remove the files in `folder`, and return the folders in it, which its user can now read."""
    folders = []
    for entry in list(os.scandir(folder)):
        if entry.is_dir(follow_symlinks=False):
            os.chmod(entry.path, 0o700)
            folders.append(entry.path)
        else:
            os.unlink(entry.path)
    return folders
