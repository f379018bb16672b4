"""What is wrong with Ray or its address is said within seconds; Ray itself would try for minutes."""

from __future__ import annotations

import socket

import pytest

from della_bench.errors import UsageError
from della_bench.workers import session
from della_bench.workers.session import open_ray
from della_bench.workers.wanted import Wanted

pytest.importorskip("ray", reason="Ray is not installed")
pytestmark = [pytest.mark.ray, pytest.mark.xdist_group("ray")]


def refused(wanted):
    with pytest.raises(UsageError) as caught, open_ray(wanted):
        pass
    return str(caught.value)


def test_without_ray_the_extra_is_named(monkeypatch):
    monkeypatch.setattr(session, "find_spec", lambda name: None)
    assert refused(Wanted(2)) == "workers: Ray is not installed: pip install 'della-bench[ray]'"


@pytest.mark.parametrize("address", ["host", "ray:", "host:port", ":123"])
def test_an_address_has_a_host_and_a_port(address):
    assert "an address is host:port, ray://host:port, or auto" in refused(Wanted(address=address))


@pytest.mark.parametrize("scheme", ["", "ray://"])
def test_an_address_where_nobody_listens_is_told(scheme):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    assert f"no Ray answers at {scheme}127.0.0.1:{port}: " in refused(Wanted(address=f"{scheme}127.0.0.1:{port}"))


def test_what_listens_and_is_no_ray_is_told(monkeypatch):
    monkeypatch.setattr(session, "_SECONDS", 2.0)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert "does not answer as Ray does" in refused(Wanted(address=f"127.0.0.1:{port}"))


def test_auto_without_a_ray_says_how_to_start_one(monkeypatch):
    monkeypatch.setattr("ray._private.services.find_gcs_addresses", set)
    monkeypatch.setattr("ray._private.services.find_bootstrap_address", lambda folder: None)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert "no Ray runs on this machine; start it with `ray start --head`" in refused(Wanted(address="auto"))
