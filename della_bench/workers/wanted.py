"""Which workers are asked for, and how many of them hosts have room for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from della_bench.errors import UsageError

__all__ = ["Share", "Wanted", "check_room", "choose_share", "room_of"]


@dataclass(frozen=True)
class Wanted:
    """Which workers are asked for.

    count: None for as many as fit, where hosts may come during the work. address: of a running Ray cluster (host:port,
    ray://host:port or auto); None starts one for this machine alone, which ends with this process. gpus, cpus: those
    of one worker; None lets `choose_share` choose.
    """

    count: int | None = None
    address: str | None = None
    gpus: int | None = None
    cpus: int | None = None


@dataclass(frozen=True)
class Share:
    """The CPUs and GPUs of one worker."""

    cpus: int
    gpus: int

    @property
    def bundle(self) -> dict[str, float]:
        """As Ray's placement groups have it."""
        return {name: float(number) for name, number in (("CPU", self.cpus), ("GPU", self.gpus)) if number}

    def fits(self, resources: Mapping[str, float]) -> int:
        """Return how many workers a host of these resources has room for."""
        return min(int(resources.get(name, 0.0) // number) for name, number in self.bundle.items())


def choose_share(wanted: Wanted, hosts: Iterable[Mapping[str, float]], *, needs_gpu: bool | None) -> Share:
    """Return what one worker gets, of hosts with these resources.

    needs_gpu: whether the work is for a GPU; None where it takes one if there is one. CPUs are divided among the
    workers of this machine; in a cluster, among its GPUs, and without a GPU a worker has one.
    """
    hosts = list(hosts)
    gpus = wanted.gpus
    if gpus is None:
        there = any(host.get("GPU", 0) >= 1 for host in hosts)
        gpus = 1 if needs_gpu or (needs_gpu is None and there) else 0
    if wanted.cpus is not None:
        return Share(wanted.cpus, gpus)
    if wanted.address is None:
        cores = sum(host.get("CPU", 0) for host in hosts)
        return Share(max(1, int(cores // (wanted.count or 1))), gpus)
    beside = [host.get("CPU", 0) * gpus // host["GPU"] for host in hosts if gpus and host.get("GPU", 0) >= gpus]
    return Share(max(1, int(min(beside, default=1))), gpus)


def room_of(share: Share, nodes: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """Return how many workers each living node (of `ray.nodes()`) has room for, by node id; none where that is 0."""
    living = {str(node["NodeID"]): share.fits(node["Resources"]) for node in nodes if node["Alive"]}
    return {node: number for node, number in living.items() if number}


def check_room(wanted: Wanted, share: Share, nodes: Iterable[Mapping[str, Any]]) -> None:
    """Raise UsageError where the hosts have no room for the workers, with what there is."""
    nodes = [node for node in nodes if node["Alive"]]
    room = sum(room_of(share, nodes).values())
    asked = wanted.count or 1
    if room >= asked:
        return
    cpus, gpus = (sum(node["Resources"].get(name, 0.0) for node in nodes) for name in ("CPU", "GPU"))
    where = "this machine" if wanted.address is None else f"the cluster of {len(nodes)} node(s)"
    each = f"{share.gpus} GPU(s) and {share.cpus} CPU(s)" if share.gpus else f"{share.cpus} CPU(s)"
    raise UsageError(
        f"{asked} worker(s) with {each} each: {where} has {gpus:.0f} GPU(s) and {cpus:.0f} CPU(s), "
        f"which is room for {room}",
        argument="workers",
    )
