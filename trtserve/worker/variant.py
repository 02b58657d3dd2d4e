"""What the batcher knows of a variant, its version and its model."""

from trtserve.clock import NS_PER_MS, NS_PER_US
from trtserve.errors import (
    Cancelled,
    DeadlineExceeded,
    InvalidRequest,
    RequestError,
    Unavailable,
)
from trtserve.model.spec import QueuePolicy
from trtserve.worker.no_room import NoRoom, closed_to, closed_while_full
from trtserve.worker.request import Request

FIRST_RETRY_MS = 100
"""The pushback of a full queue before anything was measured."""

MAX_RETRY_MS = 10_000
"""Longer, a client had better look for another server."""

UNLIMITED = 1 << 30
"""More lanes than any device has."""


class Share:
    """What one model has had of the lanes, in nanoseconds of lane time since it last waited."""

    __slots__ = ("versions", "virtual_ns")

    def __init__(self) -> None:
        self.virtual_ns = 0
        self.versions = 0


class Version:
    """One version of a model: the scope of the limits of its queue and of its lanes.

    At most `max_running` of its batches run at once; `running` do. `request_ns` is the lane time
    a request takes, averaged; 0: not measured. `waiting_ns`: what all that waits should take.
    """

    __slots__ = (
        "max_queue", "max_running", "model", "number", "queued", "request_ns", "running", "share",
        "variants", "waiting_ns",
    )

    def __init__(self, model: str, number: int, share: Share) -> None:
        self.model = model
        self.number = number
        self.max_queue = 0
        self.max_running = UNLIMITED
        self.share = share
        self.queued = 0
        self.running = 0
        self.request_ns = 0
        self.waiting_ns = 0
        self.variants = 0

    def served(self, requests: int, service_ns: int) -> None:
        """Learn from a batch what a request takes."""
        each = max(1, service_ns // requests)
        self.request_ns += (each - self.request_ns) // 8 if self.request_ns else each

    def overloaded(self, lanes: int) -> NoRoom:
        """The error of a full queue. Its pushback is the time in which the queue should drain."""
        retry_ms = FIRST_RETRY_MS
        # All lanes may be taken out for a moment.
        lanes = max(1, min(lanes, self.max_running))
        if self.request_ns:
            drain_ms = self.queued * self.request_ns // (lanes * NS_PER_MS)
            retry_ms = min(max(1, drain_ms), MAX_RETRY_MS)
        return NoRoom(
            f"model '{self.model}' version {self.number} has {self.queued} requests waiting, "
            f"which is its limit; try again in {retry_ms} ms, or raise its max_queue_size",
            retry_ms, closed_while_full(self.request_ns, lanes),
        )

    def too_slow(self, wait_ns: int, need_ns: int) -> NoRoom:
        """The error of a request that would wait beyond its deadline; with `need_ns` until then it
        would be taken. Its pushback is the wait, in which the queue should drain."""
        retry_ms = min(max(1, wait_ns // NS_PER_MS), MAX_RETRY_MS)
        return NoRoom(
            f"model '{self.model}' version {self.number} has {self.queued} requests waiting, which "
            f"takes longer than this one's deadline; try again in {retry_ms} ms, or allow more "
            f"time",
            retry_ms, closed_to(wait_ns, need_ns),
        )


class Variant:
    """One variant and its queue policy, worked out for the hot path.

    `max_rows` is the largest batch, 1 where the variant is not batched (`batched` False: each
    request is one row). `full_rows` is the largest preferred batch, 0: by measurement.
    `delay_ns` None: by measurement. Without `priority_levels` all requests have rank 0, as in
    Triton; with them a request's rank is its level less the default level, so that models with
    different scales, or none, meet at their defaults. `alone`: a batch is one request.
    """

    __slots__ = (
        "alone", "batched", "default_level", "delay_ns", "full_rows", "id", "levels", "max_rows",
        "version",
    )

    def __init__(self, ident: int, version: Version, max_batch: int, policy: QueuePolicy) -> None:
        self.id = ident
        self.version = version
        self.alone = False
        self.batched = max_batch > 0
        self.max_rows = max_batch or 1
        self.full_rows = min(max(policy.preferred_batch_sizes, default=0), self.max_rows)
        delay = policy.max_delay_us
        self.delay_ns = None if delay is None else delay * NS_PER_US
        self.levels = policy.priority_levels
        self.default_level = policy.default_priority or (self.levels + 1) // 2

    def rank(self, priority: int) -> int:
        """The rank of a request's priority; 0 for a level that the model does not have."""
        return priority - self.default_level if 0 < priority <= self.levels else 0

    def misfit(self, rows: int) -> InvalidRequest:
        """The error of a request whose rows never fit."""
        return InvalidRequest(
            f"the request has {rows} rows; model '{self.version.model}' version "
            f"{self.version.number} takes 1 to {self.max_rows} in one request"
        )


def refusal(request: Request, variant: Variant | None, now: int) -> RequestError:
    """The error of a request that can not be queued at all."""
    if variant is None:
        return Unavailable("the model was unloaded meanwhile; try again")
    if request.cancelled:
        return Cancelled("cancelled before it was queued")
    return too_late(request, now)


def too_late(request: Request, now: int) -> DeadlineExceeded:
    """The error of a request whose deadline has passed, or is too near to run it."""
    waited_ms = (now - request.submit.arrived_ns) / NS_PER_MS
    what = "the deadline passed" if now >= request.submit.deadline_ns else (
        "too little time was left to run it"
    )
    return DeadlineExceeded(
        f"{what} after {waited_ms:.1f} ms without a free lane; allow more time, "
        f"or send fewer requests at once"
    )
