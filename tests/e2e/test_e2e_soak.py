"""Memory stays while models come and go, loads fail and streams break; and growth is noticed."""

import pytest

from benchmarks.soak import LOOKS, Soak, run


@pytest.mark.slow
def test_models_that_come_and_go_leave_nothing_behind(tmp_path):
    found = run(100, tmp_path)
    assert not found.grows, found.looks


@pytest.mark.slow
def test_an_unbounded_queue_is_noticed(tmp_path):
    found = run(LOOKS, tmp_path, leak=True)
    assert found.grows, found.looks
    _, last = found.looks[-1]
    assert max(last, key=lambda name: last[name]) == "trtserve worker cpu"


def test_what_counts_is_the_growth_from_the_middle_to_the_end():
    def looked(*megabytes: int) -> Soak:
        return Soak(len(megabytes), [(at, {"a": size * 10**6}) for at, size in
                                     enumerate(megabytes)])

    filled = looked(*range(100, 200, 10), *[200] * 20)
    assert (filled.growth, filled.grows) == (0, False)
    assert looked(*range(100, 400, 10)).grows
    # One look at a bad moment is no growth.
    assert not looked(*[100] * 15, 190, *[100] * 13, 190).grows
