"""Who need not come in: requests that a worker would refuse, refused before anything is copied.

A worker that refuses a request says whose refusals would be the same, and for how long (see
Closed in ipc/message.py). Until then such requests are refused here, at a part of the cost. Then
one asks again, and by the worker's answer the door is closed once more or not. So it is closed
for milliseconds at a time, and only by a worker that has just had no room. Pure.
"""

from typing import NamedTuple

from trtserve.clock import NS_PER_MS
from trtserve.errors import Overloaded
from trtserve.ipc.message import Bucket, Closed, Failed

SHRINKS = 2
"""The time that a request needs is taken to shrink so much faster than time passes. By the
worker's margin it is one and a half times as fast, and batches may be quicker than expected."""

MOST = 64
"""Kinds of requests that one door knows. To any more it is open."""

Kind = tuple[int, Bucket]
"""A worker's name for a variant, and a bucket."""


class _Notice(NamedTuple):
    """What hangs at the door: the refusal of a request with so many rows, and when it came."""

    refusal: Failed
    closed: Closed
    rows: int
    told_ns: int


class Door:
    """One worker's, as one front end knows it."""

    __slots__ = ("_notices",)

    def __init__(self) -> None:
        self._notices: dict[Kind, _Notice] = {}

    def close(self, kind: Kind, rows: int, refusal: Failed, now: int) -> int:
        """The worker has refused a request of that kind. Returns until when the door is closed
        for some, at the latest; 0: it is not, by that."""
        closed = refusal.closed
        if closed is None:
            return 0
        if len(self._notices) >= MOST and kind not in self._notices:
            self._notices = {
                kind: notice for kind, notice in self._notices.items()
                if now < notice.told_ns + notice.closed.for_ns
            }
            if len(self._notices) >= MOST:
                return 0
        self._notices[kind] = _Notice(refusal, closed, rows, now)
        return now + closed.for_ns

    def refusal(self, kind: Kind, rows: int, deadline_ns: int, now: int) -> Overloaded | None:
        """Why a request would be refused; None if it may come in. `deadline_ns` 0: it has none."""
        notice = self._notices.get(kind)
        if notice is None or rows < notice.rows:
            return None
        closed, passed_ns = notice.closed, now - notice.told_ns
        if passed_ns >= closed.for_ns:
            return None
        if closed.need_ns and (
            not deadline_ns or deadline_ns - now >= closed.need_ns - SHRINKS * passed_ns
        ):
            return None
        refusal = notice.refusal
        retry_ms = (refusal.retry_after_ms or 1) - passed_ns // NS_PER_MS
        return Overloaded(refusal.message, max(1, retry_ms))
