"""What the attacks are aimed at, and a count of what must not change."""

from __future__ import annotations

import ctypes
import os
import secrets
import socket
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

PR_SET_CHILD_SUBREAPER = 36


@dataclass(frozen=True)
class Host:
    """A file that holds `token`, in a folder that anyone may write to, a process, and the port of a server."""

    folder: Path
    file: Path
    token: str
    process: subprocess.Popen[bytes]
    port: int
    connections: list[object]

    def aim(self, program: str) -> str:
        """Return `program` with its placeholders filled in."""
        for name, value in {
            "HOST_FOLDER": self.folder,
            "HOST_FILE": self.file,
            "HOST_TOKEN": self.token,
            "HOST_PID": self.process.pid,
            "HOST_PORT": self.port,
            "HOST_HOME": Path.home(),
        }.items():
            program = program.replace(name, str(value))
        return program


@contextmanager
def a_host(folder: Path) -> Iterator[Host]:
    """Yield a host whose orphans come to this process, so that none goes unseen."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    folder.chmod(0o777)
    token, file = secrets.token_hex(16), folder / "secret"
    file.write_text(token)
    file.chmod(0o666)
    connections: list[object] = []
    process = subprocess.Popen(["sleep", "600"], env={"TOKEN": token, "PATH": os.environ["PATH"]})
    with socket.socket() as server, socket.socket(socket.AF_UNIX) as abstract, socket.socket(socket.AF_UNIX) as named:
        server.bind(("127.0.0.1", 0))
        abstract.bind("\0" + token)
        named.bind(str(folder / "socket"))
        (folder / "socket").chmod(0o777)
        for listener in (server, abstract, named):
            listener.listen()
            threading.Thread(target=_accept, args=(listener, connections), daemon=True).start()
        try:
            yield Host(folder, file, token, process, server.getsockname()[1], connections)
        finally:
            process.kill()
            process.wait()
            for listener in (server, abstract, named):
                listener.shutdown(socket.SHUT_RDWR)


def _accept(listener: socket.socket, connections: list[object]) -> None:
    while True:
        try:
            connection, address = listener.accept()
        except OSError:
            return
        connections.append(address)
        connection.close()


def state(host: Host) -> dict[str, object]:
    """Return what must be the same before and after: processes, descriptors, files, shared memory, connections."""
    return {
        "the process is alive": host.process.poll() is None,
        "children": children(os.getpid()),
        "descriptors": sorted(os.listdir("/proc/self/fd")),
        "threads": threading.active_count(),
        "files": {path.name: _lasting(path.lstat()) for path in (host.folder, *sorted(host.folder.iterdir()))},
        "text": host.file.read_text(),
        "temporary files": sorted(os.listdir(tempfile.gettempdir())),
        "top": sorted(os.listdir("/")),
        "shared memory": [line.split()[:2] for line in Path("/proc/sysvipc/shm").read_text().splitlines()[1:]],
        "connections": list(host.connections),
        "environment": dict(os.environ),
    }


def _lasting(found: os.stat_result) -> tuple[int, ...]:
    """Return what reading a file does not change."""
    return (
        found.st_ino,
        found.st_mode,
        found.st_uid,
        found.st_nlink,
        found.st_size,
        found.st_mtime_ns,
        found.st_ctime_ns,
    )


def children(process: int) -> list[int]:
    """Return the numbers of the processes whose parent is `process`, ended ones included."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                fields = Path(f"/proc/{name}/stat").read_bytes().rpartition(b")")[2].split()
            except OSError:
                continue
            if int(fields[1]) == process:
                found.append(int(name))
    return sorted(found)
