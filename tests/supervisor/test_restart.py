"""The restart policy, by tables."""

import pytest

from trtserve.clock import NS_PER_MS, NS_PER_S
from trtserve.supervisor.restart import RestartPolicy


def delays(lives_s):
    """Run a policy through lives of these lengths: (delay in ms, hopeless) for each death."""
    policy, now, found = RestartPolicy(), 1_000 * NS_PER_S, []
    for life in lives_s:
        policy.started(now)
        now += int(life * NS_PER_S)
        restart = policy.died(now)
        found.append(((restart.at_ns - now) / NS_PER_MS, restart.hopeless))
        now = restart.at_ns
    return found


@pytest.mark.parametrize(
    ("lives_s", "expected"),
    [
        ([0], [(0, False)]),
        ([0, 0, 0, 0], [(0, False), (250, False), (500, False), (1000, False)]),
        # Five deaths within a minute: the slow pace, until it has lived for a minute.
        ([0] * 6, [(0, False), (250, False), (500, False), (1000, False), (15000, True),
                   (15000, True)]),
        ([0] * 5 + [59, 60], [(0, False), (250, False), (500, False), (1000, False),
                              (15000, True), (15000, True), (0, False)]),
        # Slow deaths are never hopeless, but the pace slows down to 15 s.
        ([20] * 9, [(0, False), (250, False), (500, False), (1000, False), (2000, False),
                    (4000, False), (8000, False), (15000, False), (15000, False)]),
        # A minute of health forgets.
        ([0, 0, 60, 0], [(0, False), (250, False), (0, False), (250, False)]),
    ],
)
def test_delays(lives_s, expected):
    assert delays(lives_s) == expected
