"""The refusal of a request that finds no room, and for how long others need not ask."""

from trtserve.clock import NS_PER_MS
from trtserve.errors import Overloaded
from trtserve.ipc.message import Closed

LONGEST_NS = 20 * NS_PER_MS
"""Front ends ask again after so much time at the latest: those who wait may go away at any
moment."""

PART = 8
"""After an eighth of the wait they ask again, so that a short queue never runs empty meanwhile."""


class NoRoom(Overloaded):
    """The error of such a request. `closed` is what front ends are told."""

    def __init__(self, message: str, retry_after_ms: int, closed: Closed) -> None:
        super().__init__(message, retry_after_ms)
        self.closed = closed


def closed_to(wait_ns: int, need_ns: int) -> Closed:
    """What a front end is told of a queue with that wait, where a request must have `need_ns`
    until its deadline."""
    return Closed(min(wait_ns // PART, LONGEST_NS), need_ns)


def closed_while_full(request_ns: int, lanes: int) -> Closed:
    """What a front end is told of a full queue, from which a request leaves after `request_ns`
    on one of so many lanes: until half of that is over there is room for nobody."""
    return Closed(min(request_ns // (2 * lanes), LONGEST_NS))
