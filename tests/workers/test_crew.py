"""Workers on a real Ray cluster of three nodes, which die, come and go."""

from __future__ import annotations

import gc
import os
import platform
import threading
from collections import Counter
from pathlib import Path

import pytest

from della_bench.errors import DellaBenchError, UsageError
from della_bench.workers import session
from della_bench.workers.crew import Crew
from della_bench.workers.session import open_ray
from della_bench.workers.wanted import Wanted
from della_bench.workers.worker import HostRefusedError, NotOnThisHostError
from tests.clustering import NODE
from tests.waiting import until
from tests.workers.held import Held, dies, says_no

pytest.importorskip("ray", reason="Ray is not installed")
pytestmark = [pytest.mark.ray, pytest.mark.xdist_group("ray")]


@pytest.fixture(autouse=True)
def not_asked_first(monkeypatch):
    """Let nobody ask whether the cluster answers, which takes a process and a second in each of these tests."""
    monkeypatch.setattr(session, "_require_answer", lambda address, place: None)


class Shared:
    """What came of a piece of work shared by a crew."""

    def __init__(self, address, tmp_path, make=Held, versions=None, **wanted):
        self.done: list = []
        self.failed: list[tuple[object, str]] = []
        self.told: list[str] = []
        self.nodes: Counter[str] = Counter()
        self.crew: Crew = None  # type: ignore[assignment]
        self._arguments = (address, tmp_path, make, versions, wanted)

    def share(self, items, do):
        address, tmp_path, make, versions, wanted = self._arguments

        def counted(worker, item):
            result = do(worker, item)
            self.nodes[worker.node] += 1
            self.done.append(item)
            return result

        with open_ray(Wanted(address=address, **wanted)) as ray:
            versions = {"python": platform.python_version()} if versions is None else versions
            self.crew = Crew(ray, Wanted(address=address, **wanted), make, versions=versions, logs=tmp_path,
                             tell=self.told.append)  # fmt: skip
            self.crew.share(items, counted, lambda item, error: self.failed.append((item, str(error))))
        return self


def test_every_piece_is_done_once_and_all_hosts_are_used(address, tmp_path):
    def do(worker, item):
        # No worker gets on before all three are at work: so each of them is used.
        return worker.call("meet", tmp_path, 3) == worker.pid and worker.call("double", item) == 2 * item

    shared = Shared(address, tmp_path).share(range(12), do)
    assert sorted(shared.done) == list(range(12))
    assert len(shared.nodes) == 3
    assert shared.failed == shared.told == []
    assert all(0 <= worker.idle <= 1 for worker in shared.crew.workers)


def test_a_process_that_has_used_a_ray_of_its_own_joins_a_cluster(address, tmp_path):
    def do(worker, item):
        # A handle of the first Ray's worker that goes now would end the other one's of the same name.
        gc.collect()
        return worker.call("double", item) == 2 * item

    for where in (None, address):
        shared = Shared(where, tmp_path, count=1).share(range(3), do)
        assert (sorted(shared.done), shared.told) == ([0, 1, 2], [])


def test_a_worker_that_is_killed_is_replaced_and_its_piece_done(address, tmp_path):
    def do(worker, item):
        if item == 1:
            worker.call("die", tmp_path / "died")
        return worker.call("double", item) == 2 * item

    shared = Shared(address, tmp_path, count=2).share(range(4), do)
    assert sorted(shared.done) == [0, 1, 2, 3]
    (line,) = shared.told
    assert "is lost: the worker's process has died" in line


def test_a_piece_that_kills_every_worker_is_given_up_with_the_first_reason_and_the_log(address, tmp_path):
    def do(worker, item):
        worker.call("fail" if item == 1 else "double", *[item][item == 1 :])
        return True

    shared = Shared(address, tmp_path, count=2).share(range(4), do)
    assert sorted(shared.done) == [0, 2, 3]
    assert shared.failed == [(1, "RuntimeError: CUDA out of memory")]
    first, second = shared.told
    assert first.endswith(" is lost: RuntimeError: CUDA out of memory")
    assert second.endswith(f" is lost, as {first.partition(' is lost')[0]} was")
    lost = [worker for worker in shared.crew.workers if not worker.done or "worker" in worker.name]
    logs = [Path(worker.log.partition(":")[2]).read_text() for worker in lost]
    assert sum("a line in the log" in log for log in logs) == 2


def test_a_host_that_is_lost_in_the_middle_costs_nothing(cluster, address, tmp_path):
    node = cluster.add_node(**NODE)
    go, at_work = tmp_path / "go", tmp_path / "at work"

    def remove():
        until(at_work.exists)
        cluster.remove_node(node, allow_graceful=False)
        go.touch()

    def do(worker, item):
        if worker.node == node.node_id and not go.exists():
            worker.call("wait_for", tmp_path / "never", at_work)
        else:
            worker.call("wait_for", go, tmp_path / str(item))
        return True

    removing = threading.Thread(target=remove)
    removing.start()
    shared = Shared(address, tmp_path).share(range(8), do)
    removing.join()
    assert sorted(shared.done) == list(range(8))
    assert node.node_id not in shared.nodes
    assert len(shared.told) == 1


def test_a_host_that_appears_during_the_work_is_used(cluster, address, tmp_path):
    added = []

    def add() -> None:  # in the main thread: a node ends with the thread that has started it
        added.append(cluster.add_node(**NODE))

    def do(worker, item):
        if item == 2:
            shared.crew.in_main(add)
        return worker.call("meet", tmp_path, 4) > 0

    shared = Shared(address, tmp_path)
    try:
        shared.share(range(6), do)
    finally:
        cluster.remove_node(added[0])
    assert sorted(shared.done) == list(range(6))
    assert added[0].node_id in shared.nodes


def test_what_one_host_cannot_do_another_one_does(address, tmp_path):
    cannot: set[str] = set()

    def do(worker, item):
        if item == "x" and (not cannot or worker.node in cannot):
            cannot.add(worker.node)
            raise NotOnThisHostError("there is no folder /data")
        return True

    shared = Shared(address, tmp_path, count=1).share(["x", "y"], do)
    assert sorted(shared.done) == ["x", "y"]
    assert shared.nodes.keys() != cannot


def test_what_no_host_can_do_fails_with_the_reason_of_each(address, tmp_path):
    def do(worker, item):
        if item == "x":
            raise NotOnThisHostError("there is no folder /data")
        return True

    shared = Shared(address, tmp_path).share(["x", "y", "z"], do)
    assert sorted(shared.done) == ["y", "z"]
    assert shared.failed == [("x", f"{platform.node()}: there is no folder /data")]


def test_what_comes_after_something_that_no_host_can_do_is_done(address, tmp_path):
    """Though all hosts had nothing else to do meanwhile, and what comes next depends on it."""
    shared = Shared(address, tmp_path)

    def items():
        yield "x"
        while not shared.failed:
            yield None
        yield "y"

    def do(worker, item):
        if item == "x":
            raise NotOnThisHostError("there is no folder /data")
        return True

    shared.share(items(), do)
    assert [item for item, _ in shared.failed] == ["x"]
    assert shared.done == ["y"]


def test_a_host_that_is_refused_is_named_once_and_used_no_more(address, tmp_path):
    refused: list[str] = []

    def do(worker, item):
        if not refused or worker.node in refused:
            refused.append(worker.node)
            raise HostRefusedError("host x is not used: its files differ")
        return True

    shared = Shared(address, tmp_path).share(range(6), do)
    assert sorted(shared.done) == list(range(6))
    assert shared.told == ["host x is not used: its files differ"]
    assert len(refused) == 1


def test_a_host_with_another_version_is_refused_by_name(cluster, address, tmp_path):
    fake = tmp_path / "packages" / "numpy-0.1.dist-info"
    fake.mkdir(parents=True)
    (fake / "METADATA").write_text("Metadata-Version: 2.1\nName: numpy\nVersion: 0.1\n")
    node = cluster.add_node(**NODE, env_vars={"PYTHONPATH": f"{fake.parent}:{os.environ.get('PYTHONPATH', '')}"})
    try:
        from importlib.metadata import version

        versions = {"python": platform.python_version(), "numpy": version("numpy")}
        meeting = tmp_path / "meeting"
        meeting.mkdir()
        shared = Shared(address, tmp_path, versions=versions)
        shared.share(range(6), lambda worker, item: worker.call("meet", meeting, 3) > 0 and until(lambda: shared.told))
    finally:
        cluster.remove_node(node)
    assert shared.told == [f"{platform.node()} is not used: it has numpy 0.1 (here {versions['numpy']})"]
    assert node.node_id not in shared.nodes


def test_where_every_host_differs_the_work_ends_with_the_reason(address, tmp_path):
    with pytest.raises(UsageError, match=r"no host is left that can be used:\n.* it has python .* \(here 2.7\)"):
        Shared(address, tmp_path, versions={"python": "2.7"}).share([1], lambda worker, item: True)


@pytest.mark.parametrize(("make", "reason"), [(says_no, "no device cuda:0"), (dies, "the worker's process has died")])
def test_the_reason_why_no_worker_starts_is_told_once(address, tmp_path, make, reason):
    shared = Shared(address, tmp_path, make=make)
    with pytest.raises(DellaBenchError) as caught:
        shared.share(range(9), lambda worker, item: True)
    assert str(caught.value).count(reason) == 1
    assert shared.done == []


def test_more_gpus_than_there_are_is_an_error_with_their_number(address, tmp_path):
    with pytest.raises(UsageError, match=r"2 worker\(s\) with 1 GPU\(s\) .* has 0 GPU\(s\) and 3 CPU\(s\)"):
        Shared(address, tmp_path, count=2, gpus=1).share([1], lambda worker, item: True)


def test_an_interrupt_ends_all_workers(address, tmp_path):
    never = tmp_path / "never"
    pids = []

    def interrupt() -> None:
        raise KeyboardInterrupt

    def do(worker, item):
        pids.append(worker.pid)
        if len(pids) == 3:
            shared.crew.in_main(interrupt)
        worker.call("wait_for", never, tmp_path / str(item))
        return True

    shared = Shared(address, tmp_path)
    with pytest.raises(KeyboardInterrupt):
        shared.share(range(9), do)
    assert len(pids) == 3
    until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids))
    assert shared.done == shared.failed == []
