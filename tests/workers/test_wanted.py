from __future__ import annotations

import pytest

from della_bench.errors import UsageError
from della_bench.workers.wanted import Share, Wanted, check_room, choose_share, room_of

GPUS = {"CPU": 32.0, "GPU": 8.0}
CPUS = {"CPU": 6.0}


def nodes(*resources, dead=()):
    return [{"NodeID": str(n), "Alive": n not in dead, "Resources": each} for n, each in enumerate(resources)]


@pytest.mark.parametrize(
    ("wanted", "hosts", "needs_gpu", "share"),
    [
        (Wanted(2), [CPUS], None, Share(3, 0)),
        (Wanted(9), [CPUS], None, Share(1, 0)),
        (Wanted(2), [GPUS], None, Share(16, 1)),
        (Wanted(2), [GPUS], False, Share(16, 0)),
        (Wanted(address="x:1"), [GPUS, CPUS], None, Share(4, 1)),
        (Wanted(address="x:1", gpus=2), [GPUS], None, Share(8, 2)),
        (Wanted(address="x:1", cpus=3), [CPUS], None, Share(3, 0)),
        (Wanted(address="x:1"), [CPUS], None, Share(1, 0)),
    ],
)
def test_a_worker_gets_its_part_of_a_host(wanted, hosts, needs_gpu, share):
    assert choose_share(wanted, hosts, needs_gpu=needs_gpu) == share


def test_a_worker_is_never_spread_over_hosts_and_a_dead_host_has_no_room():
    three = nodes({"CPU": 3.0}, {"CPU": 3.0}, {"CPU": 9.0}, dead=(2,))
    assert room_of(Share(2, 0), three) == {"0": 1, "1": 1}


def test_more_than_there_is_room_for_is_an_error_that_says_what_there_is():
    with pytest.raises(UsageError, match=r"3 worker\(s\) with 4 GPU\(s\) and 1 CPU\(s\) each: the cluster of 1 node"):
        check_room(Wanted(3, "x:1"), Share(1, 4), nodes(GPUS))
    with pytest.raises(UsageError, match=r"this machine has 0 GPU\(s\) and 6 CPU\(s\), which is room for 0"):
        check_room(Wanted(1), Share(1, 1), nodes(CPUS))
    check_room(Wanted(2, "x:1"), Share(1, 4), nodes(GPUS))
