"""A Ray cluster of three nodes on the loopback address, one for all tests that need it: it takes a while to start."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

__all__ = ["NODE", "actors", "address", "cluster", "of_ray"]

# Nobody reads here what the workers print: they have logs of their own.
NODE: dict[str, Any] = {"num_cpus": 1, "node_ip_address": "127.0.0.1", "include_log_monitor": False}


@pytest.fixture(scope="session")
def cluster() -> Iterator[Any]:
    """Return the cluster; a test that adds a node removes it."""
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={**NODE, "include_dashboard": False})
    made.add_node(**NODE)
    made.add_node(**NODE)
    yield made
    made.shutdown()


@pytest.fixture
def address(cluster: Any) -> str:
    """Return what `--ray` takes."""
    return f"127.0.0.1:{cluster.address.rpartition(':')[2]}"


def of_ray() -> list[int]:
    """Return the processes of any Ray that `della-bench` has started in these tests."""
    return _marked(b"DELLA_BENCH_RAY=")


def actors() -> list[int]:
    """Return the processes of workers that these tests have started."""
    return [pid for pid in _marked(b"") if Path(f"/proc/{pid}/comm").read_text().startswith("ray::Process")]


def _marked(variable: bytes) -> list[int]:
    """Return the processes of these tests whose environment has a variable."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            environment = (entry / "environ").read_bytes()
        except OSError:  # it has ended since, or is another user's
            continue
        if variable in environment and os.environ["DELLA_BENCH_CACHE"].encode() in environment:
            found.append(int(entry.name))
    return found
