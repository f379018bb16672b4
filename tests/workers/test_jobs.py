from __future__ import annotations

import threading

from della_bench.workers.jobs import Job, Jobs

NEVER = threading.Event()


def test_the_next_piece_is_asked_for_only_when_somebody_is_free():
    asked = []

    def pieces():
        for number in range(3):
            asked.append(number)
            yield number

    jobs = Jobs(pieces())
    job = jobs.take("a", NEVER)
    assert job is not None
    assert (job.item, asked) == (0, [0])
    jobs.done(job)
    assert not jobs.empty


def test_what_depends_on_what_is_under_way_is_waited_for():
    ended = threading.Event()

    def pieces():
        yield "x"
        while not ended.is_set():
            yield None
        yield "y"

    jobs = Jobs(pieces())
    first = jobs.take("a", NEVER)
    assert first is not None
    got: list[Job[str]] = []

    def wait() -> None:
        job = jobs.take("b", NEVER)
        assert job is not None
        got.append(job)

    waiting = threading.Thread(target=wait)
    waiting.start()
    jobs.done(first)
    assert not jobs.empty
    ended.set()
    jobs.look_again()
    waiting.join()
    assert [job.item for job in got] == ["y"]
    jobs.done(got[0])
    assert jobs.take("a", NEVER) is None
    assert jobs.empty


def test_a_piece_that_is_put_back_comes_next():
    jobs = Jobs("xyz")
    first = jobs.take("a", NEVER)
    assert first is not None
    jobs.put_back(first)
    assert jobs.take("b", NEVER) is first


def test_a_host_is_not_given_what_it_cannot_do_and_is_told_that_there_is_nothing_else():
    jobs = Jobs("xy")
    first, second = jobs.take("a", NEVER), jobs.take("a", NEVER)
    assert first is not None
    assert second is not None
    first.not_on["a"] = "no such folder"
    jobs.put_back(first)
    jobs.done(second)
    assert jobs.take("a", NEVER) is None
    assert jobs.impossible(["a"]) == [first]
    assert jobs.impossible(["a", "b"]) == []
    assert jobs.take("b", NEVER) is first


def test_a_free_worker_waits_while_a_piece_may_come_back():
    jobs = Jobs("x")
    job = jobs.take("a", NEVER)
    assert job is not None
    got = []
    waiting = threading.Thread(target=lambda: got.append(jobs.take("b", NEVER)))
    waiting.start()
    jobs.put_back(job)
    waiting.join()
    assert got == [job]


def test_what_is_to_be_tried_later_lets_others_go_first():
    jobs = Jobs("xy")
    first = jobs.take("a", NEVER)
    assert first is not None
    jobs.put_back(first, later=True)
    second = jobs.take("a", NEVER)
    assert second is not None
    assert second.item == "y"
    assert jobs.take("a", NEVER) is first
    jobs.done(first)
    jobs.done(second)
    assert jobs.empty
    assert jobs.take("a", NEVER) is None
