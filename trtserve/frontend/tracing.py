"""Which requests are traced, and what is written down of each.

A trace is made after the fact: while a request runs, only its ids and the moment of its Submit
are kept, and once it is answered everything goes into one Traced, from which spans are made
elsewhere (otlp.py), in another thread.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from trtserve import clock
from trtserve.clock import NS_PER_S
from trtserve.errors import RequestError
from trtserve.frontend.call import Call
from trtserve.frontend.counts import VersionCounts
from trtserve.frontend.template import Template
from trtserve.frontend.trace_context import trace_hex
from trtserve.ipc.message import Timing

MAX_LINKS = 32
"""Batch mates that a span names. Of more, a span would say little, and a batch cost their
square."""

_ID_BITS = 64


@dataclass(slots=True)
class Trace:
    """A traced request in flight. `parent_id` 0: it begins a trace. `sent_ns`: its last Submit,
    0 before the first."""

    trace_id: int
    span_id: int
    parent_id: int
    state: str
    call: Call
    sent_ns: int = 0


@dataclass(frozen=True, slots=True)
class Traced:
    """A traced request that was answered: all that its spans tell.

    Times are points of the monotonic clock; `clock_ns` added makes them nanoseconds since 1970.
    `template` is None where the request was refused before its meaning was known, `timing` where
    it did not run; `mates` are the (trace, span) of traced requests in its batch.
    """

    trace: Trace
    arrived_ns: int
    ended_ns: int
    clock_ns: int
    request_id: str
    template: Template | None
    worker: str = ""
    attempts: int = 0
    timing: Timing | None = None
    mates: tuple[tuple[int, int], ...] = ()
    error: RequestError | None = None


@dataclass(frozen=True, slots=True)
class Member:
    """A traced request of a batch that is done."""

    trace: Trace
    template: Template
    arrived_ns: int
    request_id: bytes
    attempts: int
    counts: VersionCounts


class Tracer:
    """Samples, and hands over what was traced. On the event loop's thread.

    A request with a parent is traced if its parent is; of the others, the share `ratio`.
    """

    def __init__(
        self, ratio: float, hand_over: Callable[[Traced], None],
        bits: Callable[[int], int] = random.getrandbits,
    ) -> None:
        # Of the id's lower half, as OpenTelemetry's sampler does: others then agree with us.
        self._bound = int(ratio * (1 << _ID_BITS))
        self._hand_over = hand_over
        self._bits = bits

    def begin(self, call: Call) -> Trace | None:
        """A request has come: its trace, or None for no trace."""
        parent = call.parent
        if parent is not None:
            if not parent.sampled:
                return None
            return Trace(parent.trace_id, self._id(_ID_BITS), parent.span_id, parent.state, call)
        if not self._bound:
            return None
        trace_id = self._id(2 * _ID_BITS)
        if trace_id & ((1 << _ID_BITS) - 1) >= self._bound:
            return None
        return Trace(trace_id, self._id(_ID_BITS), 0, "", call)

    def done(
        self, worker: str, members: Sequence[Member], timing: Timing, ended_ns: int
    ) -> None:
        """Traced requests of one batch were answered."""
        unix_ns = clock.unix_ns()
        clock_ns = unix_ns - clock.now_ns()
        spans = [(member.trace.trace_id, member.trace.span_id) for member in members]
        for position, member in enumerate(members):
            member.counts.exemplify(
                trace_hex(member.trace.trace_id), unix_ns / NS_PER_S, member.arrived_ns, ended_ns,
                timing,
            )
            # Each names those around it: the first of a large batch are not the mates of all.
            first = min(max(0, position - MAX_LINKS // 2), max(0, len(spans) - MAX_LINKS - 1))
            mates = spans[first : first + MAX_LINKS + 1]
            mates.remove(spans[position])
            self._hand_over(Traced(
                member.trace, member.arrived_ns, ended_ns, clock_ns,
                member.trace.call.request_id(member.request_id), member.template, worker,
                member.attempts, timing, tuple(mates),
            ))

    def failed(
        self, trace: Trace, error: RequestError, arrived_ns: int, ended_ns: int,
        request_id: bytes, template: Template | None = None, worker: str = "", attempts: int = 0,
    ) -> None:
        """A traced request was refused or failed."""
        self._hand_over(Traced(
            trace, arrived_ns, ended_ns, clock.unix_ns() - clock.now_ns(),
            trace.call.request_id(request_id), template, worker, attempts, error=error,
        ))

    def _id(self, bits: int) -> int:
        """A random id; 0 is none."""
        return self._bits(bits) or 1
