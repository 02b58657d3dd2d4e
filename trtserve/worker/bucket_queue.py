"""The requests of one bucket that wait, and when they should start."""

from collections import deque
from collections.abc import Iterator
from heapq import heapify, heappop, heappush

from trtserve.ipc.message import Bucket
from trtserve.worker.latency import LatencyTable
from trtserve.worker.request import Request
from trtserve.worker.variant import Variant

NEVER = 1 << 62
"""Later than any time of the clock."""

SLACK = 64
"""Deadlines of requests that have left stay in the heap until they come up. It is rebuilt when
they outnumber those of the waiting ones by this, which costs each request a constant."""


class BucketQueue:
    """Requests of one bucket by rank, then arrival.

    Attributes that the batcher reads; `refresh` brings the last four up to date:

    - `rows`, `count`: of all that wait here.
    - `ready_ns`: from when on a batch should start if a lane is free; 0 when it is full.
    - `overdue_ns`: from when on it should not wait for a useful lane any more, because it has
      waited as long as it will run.
    - `latest_ns`: the latest start that meets the earliest deadline; NEVER without one.
    - `oldest_ns`: the arrival of the request that has waited longest.
    - `rank`: the most urgent one's.

    `row_ns` is the lane time that a row should take in a full batch, and `least_ns` the quickest
    time of a lone row, 0 before the first measurement; `revalue` brings them up to date.
    """

    __slots__ = (
        "_deadlines", "_lines", "_pushed", "bucket", "count", "latest_ns", "least_ns", "oldest_ns",
        "overdue_ns", "rank", "ready_ns", "row_ns", "rows", "share", "table", "variant", "version",
    )

    def __init__(self, variant: Variant, bucket: Bucket, table: LatencyTable) -> None:
        self.variant = variant
        self.version = variant.version
        self.share = variant.version.share
        self.bucket = bucket
        self.table = table
        self.rows = 0
        self.count = 0
        self.ready_ns = self.overdue_ns = self.latest_ns = self.oldest_ns = NEVER
        self.rank = 0
        self._lines: dict[int, deque[Request]] = {}
        self._deadlines: list[tuple[int, int, Request]] = []
        self._pushed = 0
        self.revalue()

    def __iter__(self) -> Iterator[Request]:
        for line in self._lines.values():
            yield from line

    def push(self, request: Request) -> None:
        """Queue a request whose rank and rows are set."""
        line = self._lines.get(request.rank)
        if line is None:
            line = self._lines[request.rank] = deque()
            if len(self._lines) > 1:
                self._lines = dict(sorted(self._lines.items()))
        line.append(request)
        request.queued = True
        self.rows += request.rows
        self.count += 1
        self.table.arrival(request.submit.arrived_ns)
        if request.submit.deadline_ns:
            self._pushed += 1
            heappush(self._deadlines, (request.submit.deadline_ns, self._pushed, request))
        self.refresh()

    def remove(self, request: Request) -> None:
        """Take out one request that waits here. The caller refreshes."""
        line = self._lines[request.rank]
        line.remove(request)
        if not line:
            del self._lines[request.rank]
        self._left(request)

    def take(self) -> list[Request]:
        """Take out the next batch: in order, until the next request would exceed the full size.

        The first is taken in any case, since it alone may have more rows than pay. A large
        request that does not fit any more is not overtaken: it heads the next batch. The caller
        refreshes.
        """
        taken: list[Request] = []
        room = self.full_size()
        for rank, line in tuple(self._lines.items()):
            while line:
                request = line[0]
                if taken and request.rows > room:
                    return self._took(taken)
                taken.append(line.popleft())
                room -= request.rows
                self._left(request)
            del self._lines[rank]
        return self._took(taken)

    def take_expired(self, now: int) -> list[Request]:
        """Take out those that can not be in time any more, earliest first. The caller refreshes."""
        expired = []
        while self.expiry_ns() <= now:
            request = self._deadlines[0][2]
            self.remove(request)
            expired.append(request)
        return expired

    def earliest_deadline(self) -> int:
        """The earliest deadline of those that wait; NEVER without one."""
        deadlines = self._deadlines
        while deadlines and not deadlines[0][2].queued:
            heappop(deadlines)
        return deadlines[0][0] if deadlines else NEVER

    def expiry_ns(self) -> int:
        """When the first of those that wait can not be in time any more, however quickly it runs;
        NEVER without a deadline.

        One that waits alone is tried until its deadline: nobody loses by it, and what was learned
        may be wrong.
        """
        deadline = self.earliest_deadline()
        return deadline - self.least_ns if deadline != NEVER and self.count > 1 else deadline

    def full_size(self) -> int:
        """The rows at which waiting for more ends."""
        variant = self.variant
        if variant.alone:
            return 1
        return variant.full_rows or min(variant.max_rows, self.table.best_rows)

    def revalue(self) -> None:
        """Work out anew what a row costs, after the table has learned."""
        rows = self.full_size()
        self.row_ns = (self.table.estimate(rows) or 0) // rows
        self.least_ns = self.table.alone(1) or 0

    def refresh(self) -> None:
        """Work out anew when to start, after the queue or its table has changed."""
        lines = self._lines
        if not lines:
            return
        if len(lines) == 1:
            ((self.rank, line),) = lines.items()
            self.oldest_ns = line[0].submit.arrived_ns
        else:
            self.rank = next(iter(lines))
            self.oldest_ns = min(line[0].submit.arrived_ns for line in lines.values())
        full = self.rows >= self.full_size()
        if full:
            self.ready_ns = 0
        else:
            delay = self.variant.delay_ns
            self.ready_ns = self.oldest_ns + (self.table.patience_ns if delay is None else delay)
        self.latest_ns = NEVER
        if self._deadlines:
            self._heed_deadline(full)
        self.overdue_ns = 0 if full else self.ready_ns + (self.table.estimate(self.rows) or 0)

    def _heed_deadline(self, full: bool) -> None:
        deadline = self.earliest_deadline()
        if len(self._deadlines) > 2 * self.count + SLACK:
            self._deadlines = [entry for entry in self._deadlines if entry[2].queued]
            heapify(self._deadlines)
        if deadline == NEVER:
            return
        rows = min(self.rows, self.full_size())
        self.latest_ns = deadline - (self.table.estimate(rows) or 0)
        if not full:
            last_call = deadline - (self.table.estimate(rows + 1) or 0)
            self.ready_ns = min(self.ready_ns, last_call)

    def _took(self, taken: list[Request]) -> list[Request]:
        """The requests of a batch, once its size is noted."""
        self.table.left(sum([request.rows for request in taken]))
        return taken

    def _left(self, request: Request) -> None:
        request.queued = False
        self.rows -= request.rows
        self.count -= 1
