"""Namespaces without a helper program: the worker makes a file tree of its own and leaves the machine's."""

from __future__ import annotations

import os
import socket

from della_bench.scoring.sandbox.inside import system
from della_bench.scoring.sandbox.inside.rows import HOST_NAME, Tree

__all__ = ["enter"]

USER = 1000  # what the sandbox calls the one user it has
STAGE = "/tmp"
NAMESPACES = (
    system.CLONE_NEWUSER | system.CLONE_NEWNS | system.CLONE_NEWPID | system.CLONE_NEWNET | system.CLONE_NEWIPC
) | (system.CLONE_NEWUTS | system.CLONE_NEWCGROUP)


def enter(control: socket.socket, tree: Tree, argv: list[str], environment: dict[str, str]) -> None:
    """Run `argv` as process 1 of new namespaces that hold the files of `tree` and nothing else; this process waits.

    Raises OSError where the kernel refuses.
    """
    user, group = os.getuid(), os.getgid()
    system.unshare(NAMESPACES)
    _write("/proc/self/setgroups", "deny")
    _write("/proc/self/uid_map", f"{USER} {user} 1")
    _write("/proc/self/gid_map", f"{USER} {group} 1")
    _write("/proc/sys/user/max_user_namespaces", "0")
    socket.sethostname(HOST_NAME)
    child = os.fork()
    if child:
        control.close()
        os.waitpid(child, 0)
        os._exit(0)
    system.die_with_parent()
    _make_tree(tree)
    system.keep_one_capability(system.CAP_SYS_ADMIN)
    os.set_inheritable(control.fileno(), True)
    os.execve(argv[0], argv, environment)


def _make_tree(tree: Tree) -> None:
    system.mount("none", "/", None, system.MS_REC | system.MS_PRIVATE)
    opened = [(target, os.open(source, os.O_PATH)) for source, target in tree["files"]]
    system.mount("tmpfs", STAGE, "tmpfs", system.MS_NOSUID | system.MS_NODEV, "mode=0755,size=1m")
    for target, place in opened:
        system.bind(f"/proc/self/fd/{place}", STAGE + target)
        if not target.startswith("/dev/"):  # the keeper's turn
            system.read_only(STAGE + target)
        os.close(place)
    for folder in tree["hidden"]:
        system.mount("tmpfs", STAGE + folder, "tmpfs", system.MS_RDONLY, "mode=0755,size=4k")
    for target, path in tree["links"]:
        os.makedirs(os.path.dirname(STAGE + path), exist_ok=True)
        os.symlink(target, STAGE + path)
    os.mkdir(STAGE + tree["work"])
    os.chdir(STAGE)
    system.pivot_root(".", ".")
    system.umount(".")
    os.chdir("/")
    system.mount("none", "/", None, system.MS_REMOUNT | system.MS_RDONLY | system.MS_BIND | system.MS_NOSUID)


def _write(path: str, text: str) -> None:
    with open(path, "w", encoding="ascii") as file:
        file.write(text)
