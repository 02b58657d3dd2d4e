"""Daemons that are restarted under load, behind one client that retries as documented."""

from itertools import pairwise

from benchmarks.rolling_restart import options, run


def test_no_call_fails(tmp_path):
    outcome = run(tmp_path, count=2, rounds=1, callers=4, delay=0.3, calm=0)
    assert outcome.failed == []
    assert outcome.restarts == 2
    assert len(outcome.took_ns) > 100  # of a client that never pauses


def test_each_option_is_given_once():
    names = sorted(name for name, _ in options())
    assert all(one != other for one, other in pairwise(names))
    assert "round_robin" in dict(options())["grpc.service_config"]
