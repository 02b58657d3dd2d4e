"""How many lanes are worth using, learned from how much batches slow one another down."""

from collections.abc import Callable

from trtserve.worker.concurrency import REFRESH, SAMPLES, Concurrency

ALONE_NS = 1_000_000


def play(learner: Concurrency, batches: int, service: Callable[[int], float]) -> list[int]:
    """Run batches with as many lanes busy as it says, which take `service(lanes)` times their
    time alone. Returns what it said before each."""
    said = []
    for _ in range(batches):
        said.append(learner.useful)
        learner.record(learner.useful, ALONE_NS, int(ALONE_NS * service(learner.useful)))
    return said


def shared(lanes: int) -> float:
    """A device that one lane nearly fills."""
    return max(1.0, lanes / 1.18)


def own(lanes: int) -> float:
    """Lanes with cores of their own."""
    return 1.0


def test_lanes_that_share_a_full_device_are_left_unused() -> None:
    learner = Concurrency(4)
    play(learner, 10 * SAMPLES, shared)
    assert learner.useful == 2


def test_lanes_with_cores_of_their_own_are_all_used() -> None:
    learner = Concurrency(4)
    play(learner, 10 * SAMPLES, own)
    assert learner.useful == 4


def test_a_lane_is_tried_before_it_is_judged() -> None:
    said = play(Concurrency(3), 3 * SAMPLES, shared)
    assert said[0] == 3
    assert said.count(3) == SAMPLES
    assert said[-SAMPLES // 2 :] == [2] * (SAMPLES // 2)


def test_what_did_not_pay_is_tried_again() -> None:
    learner = Concurrency(3)
    play(learner, 4 * SAMPLES, shared)
    assert learner.useful == 2
    play(learner, REFRESH + 2 * SAMPLES, own)
    assert learner.useful == 3


def test_two_lanes_are_used_in_any_case_and_one_where_there_is_one() -> None:
    learner = Concurrency(2)
    play(learner, 4 * SAMPLES, lambda lanes: 3.0 * lanes)
    assert learner.useful == 2
    assert Concurrency(1).useful == 1


def test_batches_between_two_levels_say_nothing() -> None:
    learner = Concurrency(3)
    for _ in range(10 * SAMPLES):
        learner.record(2.5, ALONE_NS, ALONE_NS)
        learner.record(1.0, ALONE_NS, ALONE_NS)
        learner.record(2.0, ALONE_NS, 0)
    assert learner.useful == 3


def test_one_stray_does_not_turn_it() -> None:
    learner = Concurrency(3)
    play(learner, 4 * SAMPLES, own)
    learner.record(3, ALONE_NS, 3 * ALONE_NS)
    assert learner.useful == 3
