"""Twice the load that a daemon can carry, with deadlines: it answers as much as it can, in time."""

import argparse
from itertools import pairwise

from benchmarks.open_loop import schedule
from benchmarks.overload import run


def test_overload_costs_nothing_of_what_can_be_done(tmp_path):
    found = run(argparse.Namespace(
        engine="sleeps", seconds=1.5, times=[2.0], deadline_ms=800, lanes=2, front_ends=1,
        processes=1, steps=0,
    ), tmp_path)
    (figures,) = found["rates"]
    # Half of what is reached on a quiet machine: others may use this one.
    assert figures["good_per_s"] > found["capacity_per_s"] / 2
    assert figures["late_share"] < 0.1
    assert figures["refused"] > 0
    assert figures["without_pushback"] == 0
    assert figures["other_errors"] == {}


def test_arrivals_are_a_poisson_process_of_the_rate():
    due = schedule(200, 50, seed=1)
    assert 9_500 < len(due) < 10_500
    assert due == sorted(due)
    assert schedule(200, 50, seed=1) == due
    assert schedule(200, 50, seed=2) != due
    gaps = [later - earlier for earlier, later in pairwise(due)]
    mean = sum(gaps) / len(gaps)
    spread = (sum((gap - mean) ** 2 for gap in gaps) / len(gaps)) ** 0.5
    assert 0.9 < spread / mean < 1.1
