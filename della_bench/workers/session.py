"""A connection to Ray: to a cluster that runs, or to a Ray of this machine alone that ends with this process."""

from __future__ import annotations

import logging
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from della_bench.errors import DellaBenchError, UsageError
from della_bench.workers import reaper
from della_bench.workers.wanted import Wanted

__all__ = ["check_address", "open_ray", "require_ray"]

_SECONDS = 15.0  # within which a cluster must answer
_REAPING = 60.0  # seconds within which the processes of a Ray have ended
_CLIENT_PORT = 10001
# Read when Ray is imported. Nothing is sent to Ray's makers; a call after the end must not start another Ray.
_QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ENABLE_AUTO_CONNECT": "0"}
# A Ray of one machine needs no address that others reach, and with one it would let others run programs here. Ray takes
# the loopback address where this variable, made for other systems, is 0; else it takes one that other hosts may see.
_HERE = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
# Workers are what this machine is asked to do; Ray lets them come after all other programs, unless somebody says else.
_NOT_LAST = {"RAY_worker_niceness": os.environ.get("RAY_worker_niceness", "0")}  # noqa: SIM112  # as Ray spells it
# Its processes know each other by a token of their own; else Ray would put one into the user's home.
_TOKEN = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": uuid.uuid4().hex}
_OBJECTS = 200 * 2**20  # bytes: of answers on their way to the driver


def require_ray(argument: str) -> None:
    """Raise UsageError where Ray is not installed; `argument` is what needs it."""
    if find_spec("ray") is None:
        raise UsageError("Ray is not installed: pip install 'della-bench[ray]'", argument=argument)


def check_address(address: str) -> str:
    """Return the address with its host and port.

    Raises UsageError where Ray is not installed, or none answers there within seconds.
    """
    require_ray("--ray")
    os.environ.update(_QUIET)
    place = _find(address)
    _require_answer(address, place)
    return place


@contextmanager
def open_ray(wanted: Wanted) -> Iterator[Any]:
    """Connect, and yield the module `ray`; ends what was started here, and leaves a cluster as it was.

    Raises UsageError where Ray is not installed, where nothing answers at the address within seconds, or where another
    version of Ray or Python runs there.
    """
    require_ray("workers" if wanted.address is None else "ray")
    os.environ.update(_QUIET)
    opened = _started_here(wanted) if wanted.address is None else _joined(wanted.address)
    with opened:
        import ray

        yield ray


@contextmanager
def _started_here(wanted: Wanted) -> Iterator[None]:
    with ExitStack() as at_end:  # each of what follows is ended, whatever the end of another raises
        folder = tempfile.mkdtemp(prefix="della-")  # short: a socket's path may have 107 characters
        at_end.callback(shutil.rmtree, folder, ignore_errors=True)
        mark = f"DELLA_BENCH_RAY={uuid.uuid4().hex}"
        own = [sys.executable, "-I", "-S", str(Path(reaper.__file__)), mark, folder]
        # A group of its own: what ends this process (Ctrl-C, a kill of the group) does not end the reaper.
        at_end.callback(_end, subprocess.Popen(own, stdin=subprocess.PIPE, start_new_session=True))
        name, _, value = mark.partition("=")
        variables = {name: value, **_HERE, **_NOT_LAST, **_TOKEN}
        at_end.callback(_set_back, {each: os.environ.get(each) for each in variables})
        os.environ.update(variables)
        _look_again()
        at_end.callback(lambda: sys.modules["ray"].shutdown() if "ray" in sys.modules else None)
        import ray

        cores = max(os.cpu_count() or 1, (wanted.count or 1) * (wanted.cpus or 1))
        try:
            ray.init(
                address="local",
                num_cpus=cores,
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.ERROR,
                object_store_memory=_OBJECTS,
                _temp_dir=folder,
            )
        except Exception as error:  # a plain one where a busy machine takes Ray more than half a minute
            raise DellaBenchError(f"Ray could not start on this machine: {_one_line(error)}") from error
        yield


def _end(guard: subprocess.Popen[bytes]) -> None:
    """Let the reaper do its work, and wait for it: not for ever, as a process may hang in the kernel."""
    assert guard.stdin is not None
    guard.stdin.close()
    with suppress(subprocess.TimeoutExpired):
        guard.wait(timeout=_REAPING)


def _set_back(before: Mapping[str, str | None]) -> None:
    """Give environment variables the values back that they had; None is none."""
    for name, known in before.items():
        os.environ.pop(name)
        os.environ.update({} if known is None else {name: known})
    _look_again()


def _look_again() -> None:
    """Let a Ray that is loaded look again at what it looks at once, when it is imported.

    That is whether there is a token, and whether it is for this machine alone.
    """
    constants: Any = sys.modules.get("ray._private.ray_constants")
    if constants is not None and hasattr(constants, "ENABLE_RAY_CLUSTER"):
        elsewhere = sys.platform in ("darwin", "win32")  # where Ray is for one machine unless it is told otherwise
        constants.ENABLE_RAY_CLUSTER = constants.env_bool(constants.ENABLE_RAY_CLUSTERS_ENV_VAR, not elsewhere)
    loaded: Any = sys.modules.get("ray._raylet")
    if loaded is not None and hasattr(loaded, "AuthenticationTokenLoader"):  # of releases that know tokens
        loaded.Config.initialize("")
        loaded.AuthenticationTokenLoader.instance().reset_cache()


@contextmanager
def _joined(address: str) -> Iterator[None]:
    place = check_address(address)
    import ray

    try:
        # With "auto" Ray finds the token of a cluster of this machine by itself.
        ray.init(address="auto" if address == "auto" else place, log_to_driver=False, logging_level=logging.ERROR)
    except Exception as error:  # Ray has no class of its own for it
        raise UsageError(f"{address}: cannot be joined: {_one_line(error)}", argument="ray") from error
    try:
        yield
    finally:
        ray.shutdown()


def _find(address: str) -> str:
    """Return the address with its host and port."""
    if address != "auto":
        host, colon, port = address.removeprefix("ray://").rpartition(":")
        if not colon and address.startswith("ray://"):
            return f"{address}:{_CLIENT_PORT}"
        if not colon or not host or not port.isdecimal():
            raise UsageError(
                f"{address}: an address is host:port, ray://host:port, or auto for the cluster that runs here",
                argument="ray",
            )
        return address
    from ray._private.services import get_ray_address_from_environment

    try:
        return str(get_ray_address_from_environment("auto", None))
    except ConnectionError:
        raise UsageError(
            "auto: no Ray runs on this machine; start it with `ray start --head`, or give its address (host:port)",
            argument="ray",
        ) from None


def _require_answer(address: str, place: str) -> None:
    """Raise UsageError where nothing answers as Ray does: Ray itself would try for minutes, and cannot be stopped."""
    host, _, port = place.removeprefix("ray://").rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_SECONDS).close()
    except OSError as error:
        reason = error.strerror or str(error) or type(error).__name__
        raise UsageError(f"{address}: no Ray answers at {place}: {reason}", argument="ray") from None
    if place.startswith("ray://"):
        return  # Ray's client has a limit of its own
    asked = [sys.executable, "-c", "import sys; from ray._raylet import GcsClient; GcsClient(sys.argv[1])", place]
    try:
        told = subprocess.run(asked, capture_output=True, timeout=2 * _SECONDS, check=False)
    except subprocess.TimeoutExpired:
        told = None
    if told is not None and b"AuthenticationError" in told.stderr:
        if address == "auto":
            return  # Ray finds the token by itself
        raise UsageError(
            f"{address}: the cluster asks for a token: set RAY_AUTH_MODE=token, and put it into ~/.ray/auth_token "
            "or RAY_AUTH_TOKEN",
            argument="ray",
        )
    if told is None or told.returncode:
        raise UsageError(f"{address}: what listens at {place} does not answer as Ray does", argument="ray")


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:400] or type(error).__name__
