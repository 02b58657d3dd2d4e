"""The cores that a container's limit leaves, read from files as Linux writes them."""

import os

import pytest

from trtserve.cores import core_count

HERE = len(os.sched_getaffinity(0))


@pytest.mark.parametrize(("content", "cores"), [
    ("max 100000\n", HERE),
    ("100000 100000\n", 1),
    ("50000 100000\n", 1),  # half a core is still one thread
    ("110000 100000\n", min(HERE, 2)),
    ("99900000 100000\n", HERE),  # more than there are
    ("nonsense", HERE),
])
def test_the_limit_of_a_control_group(tmp_path, content, cores):
    (tmp_path / "cpu.max").write_text(content)
    assert core_count(tmp_path) == cores


@pytest.mark.parametrize(("quota", "cores"), [
    ("-1", HERE), ("100000", 1), ("150000", min(HERE, 2)),
])
def test_the_limit_of_a_control_group_of_the_first_version(tmp_path, quota, cores):
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text(quota + "\n")
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000\n")
    assert core_count(tmp_path) == cores


def test_without_control_groups_the_affinity_counts(tmp_path):
    assert core_count(tmp_path) == HERE
