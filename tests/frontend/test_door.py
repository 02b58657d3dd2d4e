"""What a front end refuses by itself: the same that the worker would, and only for a moment."""

import pytest

from trtserve.clock import NS_PER_MS
from trtserve.errors import Overloaded
from trtserve.frontend.door import MOST, Door
from trtserve.ipc.message import Bucket, Closed, Failed

MS = NS_PER_MS
BUCKET: Bucket = ((2,),)
KIND = 10, BUCKET


def refusal(for_ms: int = 20, need_ms: int = 0, retry_ms: int | None = 65) -> Failed:
    """A refusal that closes the door for so long, to those with less than so much time left."""
    return Failed((1,), "overloaded", "no room", retry_ms, Closed(for_ms * MS, need_ms * MS))


def closed(for_ms: int = 20, need_ms: int = 0, rows: int = 1) -> Door:
    """A door that was closed at 0."""
    door = Door()
    assert door.close(KIND, rows, refusal(for_ms, need_ms), 0) == for_ms * MS
    return door


def refuses(door: Door, at_ms: float, left_ms: float = 0, rows: int = 1) -> bool:
    """Whether it keeps out a request with so much time until its deadline; 0: it has none."""
    now = int(at_ms * MS)
    deadline = now + int(left_ms * MS) if left_ms else 0
    return door.refusal(KIND, rows, deadline, now) is not None


def test_it_is_open_at_first():
    assert not refuses(Door(), 0)
    assert Door().close(KIND, 1, Failed((1,), "overloaded", "no room"), 0) == 0


def test_a_full_queue_keeps_everybody_out_until_somebody_asks_again():
    door = closed(for_ms=20)
    assert refuses(door, 0)
    assert refuses(door, 19.9, left_ms=1e6)
    assert not refuses(door, 20)


@pytest.mark.parametrize(("at_ms", "left_ms", "kept_out"), [
    (0, 99, True), (0, 100, False), (0, 500, False),
    # What a request needs shrinks twice as fast as time passes.
    (10, 79, True), (10, 80, False),
    (20, 10, False),
])
def test_who_has_time_enough_may_come_in(at_ms, left_ms, kept_out):
    assert refuses(closed(need_ms=100), at_ms, left_ms) == kept_out


def test_without_a_deadline_no_wait_is_too_long():
    assert not refuses(closed(need_ms=100), 0)


def test_fewer_rows_and_other_kinds_may_come_in():
    door = closed(rows=4)
    assert [refuses(door, 0, rows=rows) for rows in (3, 4, 5)] == [False, True, True]
    assert door.refusal((11, BUCKET), 4, 0, 0) is None
    assert door.refusal((10, ((3,),)), 4, 0, 0) is None


def test_the_pushback_is_the_workers_less_what_has_passed():
    door = closed(for_ms=200)
    for at_ms, retry_ms in ((0, 65), (15, 50), (199, 1)):
        error = door.refusal(KIND, 1, 0, at_ms * MS)
        assert isinstance(error, Overloaded)
        assert (str(error), error.retry_after_ms) == ("no room", retry_ms)


def test_what_the_worker_said_last_counts():
    door = closed(for_ms=20)
    door.close(KIND, 1, refusal(for_ms=5), 10 * MS)
    assert refuses(door, 14)
    assert not refuses(door, 16)


def test_it_remembers_a_limited_number_of_kinds():
    door = Door()
    for variant in range(MOST):
        assert door.close((variant, BUCKET), 1, refusal(for_ms=20), 0)
    assert not door.close((MOST, BUCKET), 1, refusal(), 0)
    assert door.close((0, BUCKET), 1, refusal(), 0)
    assert door.close((MOST, BUCKET), 1, refusal(), 20 * MS)  # the others are over
