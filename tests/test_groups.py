"""Groups of tests that share what is slow to start (an engine, a sandbox) stay in one process of pytest-xdist."""

from __future__ import annotations

import os

import pytest


@pytest.mark.skipif("PYTEST_XDIST_WORKER" not in os.environ, reason="one process runs all tests")
@pytest.mark.xdist_group("group")
def test_a_test_of_a_group_goes_by_the_groups_name(request: pytest.FixtureRequest) -> None:
    assert request.node.nodeid.endswith("@group")


@pytest.mark.skipif("PYTEST_XDIST_WORKER" not in os.environ, reason="one process runs all tests")
def test_tests_of_vllm_are_a_group(request: pytest.FixtureRequest) -> None:
    found = [item.nodeid for item in request.session.items if item.get_closest_marker("vllm")]
    assert all("vllm" in name.rpartition("@")[2] for name in found)
