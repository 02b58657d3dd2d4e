"""Which requests run together, and when. Pure: it takes `now` (nanoseconds) and decides.

Each bucket has its own queue, so requests of different shapes never flush one another. While a
lane is free, a bucket's batch starts when waiting for company no longer pays:

- it is full: the largest batch that the variant takes, or beyond which growing does not pay by
  measurement, or the largest preferred size where the configuration names some;
- one more request would no longer meet its earliest deadline: now >= d - l(rows + 1);
- its oldest request has waited the maximum delay (without one in the configuration: as long as
  company is likely to come and worth waiting for, see PATIENCE in latency.py);
- or no lane is busy: at an idle device nothing is gained by waiting.

Among several that should start: by priority; then deadlines that would pass while another batch
ran, the earliest first; then the model that has had the least lane time; then the oldest.
Priority is an absolute order: while more urgent requests keep every lane busy, less urgent ones
wait until their deadlines pass. Levels only exist where the configuration makes them. A version
that has as many batches running as it may is passed over until one of them finishes; and lanes
that were found to add little are kept for full batches (see concurrency.py).
"""

from collections.abc import Collection
from itertools import count

from trtserve.clock import NS_PER_MS
from trtserve.errors import Cancelled, ProtocolError, RequestError
from trtserve.ipc.message import Bucket
from trtserve.model.cost import Cost
from trtserve.model.spec import QueuePolicy
from trtserve.worker.batcher_statistics import BatcherStatistics
from trtserve.worker.bucket_queue import NEVER, BucketQueue
from trtserve.worker.choice import choose
from trtserve.worker.concurrency import LaneBudget
from trtserve.worker.latency import LatencyTable
from trtserve.worker.promise import check_time
from trtserve.worker.request import Batch, Request
from trtserve.worker.tables import LatencyTables
from trtserve.worker.variant import UNLIMITED, Share, Variant, Version, refusal, too_late

LEAD_NS = 100 * NS_PER_MS
"""How much more lane time than its fair share a model may have by urgent deadlines. Without a
limit, a flood of requests with short deadlines would starve every model that sets none."""


class Batcher:
    """Queues requests by bucket and forms batches for a fixed number of lanes.

    The caller runs each batch on a lane of its choice and reports it with `finished`. After any
    call that may change the picture it calls `next_batch` until that returns None, answers what
    `take_dropped` returns, and calls again at `wakeup` at the latest.
    """

    def __init__(self, lanes: int, default_max_queue: int) -> None:
        self._budget = LaneBudget(lanes)
        self._default_max_queue = default_max_queue
        self._shares: dict[str, Share] = {}
        self._versions: dict[tuple[str, int], Version] = {}
        self._variants: dict[int, Variant] = {}
        self._queues: dict[tuple[int, Bucket], BucketQueue] = {}
        self._tables = LatencyTables()
        self._running: dict[int, tuple[Batch, Version]] = {}
        # Lane time: of what waits, each row at its queue's `row_ns`, and of what runs.
        self._waiting_ns = 0
        self._running_ns = 0
        self._ids = count(1)
        self._dropped: list[tuple[Request, RequestError]] = []
        # Lower bounds over all queues: before them there is nothing to look for, which saves
        # looking through the queues for every request.
        self._ready_ns = NEVER
        self._expiry_ns = NEVER
        self._virtual_ns = 0
        self._longest_ns = 0

    # --- what is served ------------------------------------------------------------------

    def add_variant(
        self, variant: int, model: str, version: int, max_batch: int, queue: QueuePolicy,
        lanes: int | None = None,
    ) -> None:
        """Take requests for a variant from now on. `max_batch` 0: its requests run one by one.

        All variants of a version share its queue limit and the number of lanes that it may be on
        at once (None: all), which the latest one sets: while a version takes the place of another
        of its number, requests of both count.
        """
        share = self._shares.setdefault(model, Share())
        found = self._versions.get((model, version))
        if found is None:
            found = self._versions[model, version] = Version(model, version, share)
            share.versions += 1
        found.max_queue = queue.max_queue_size or self._default_max_queue
        found.max_running = UNLIMITED if lanes is None else lanes
        if self._queues:
            self._ready_ns = 0  # it may run on more lanes than before
        found.variants += 1
        self._variants[variant] = Variant(variant, found, max_batch, queue)

    def holds(self, variants: Collection[int]) -> bool:
        """Whether any request of these variants waits or runs."""
        return any(queue.variant.id in variants for queue in self._queues.values()) or any(
            batch.variant in variants for batch, _ in self._running.values()
        )

    def remove_variant(self, variant: int) -> list[Request]:
        """Take no more requests for it and forget what was learned; returns those that waited.

        Its batches that run are finished as usual.
        """
        removed = self._variants.pop(variant)
        version = removed.version
        waiting: list[Request] = []
        for queue in [queue for queue in self._queues.values() if queue.variant is removed]:
            requests = list(queue)
            self._remove(queue, requests)
            waiting += requests
        self._tables.forget(variant)
        version.variants -= 1
        if not version.variants:
            del self._versions[version.model, version.number]
            version.share.versions -= 1
            if not version.share.versions:
                del self._shares[version.model]
        return waiting

    def run_alone(self, variant: int) -> None:
        """Put no two requests of a variant into one batch from now on."""
        self._variants[variant].alone = True
        for queue in self._queues.values():
            self._revalue(queue)
            queue.refresh()
        if self._queues:
            self._ready_ns = 0

    # --- the pool of lanes ---------------------------------------------------------------

    @property
    def lanes(self) -> int:
        """The lanes in the pool."""
        return self._budget.lanes

    @property
    def lanes_in_all(self) -> int:
        """All lanes, the reserved ones too."""
        return self._budget.in_all

    def reserve_lane(self) -> None:
        """Take a lane out of the pool: of those that are busy one more has to finish before the
        next batch starts. With no lane left requests just wait."""
        self._budget.reserve()

    def return_lane(self) -> None:
        """Put a reserved lane back into the pool."""
        self._budget.give_back()

    # --- requests come and go ------------------------------------------------------------

    def add(self, request: Request, now: int) -> None:
        """Queue a request.

        Raises, with nothing queued: Unavailable for a variant that is not served, InvalidRequest
        for a number of rows that never fits, DeadlineExceeded, Cancelled, and Overloaded (with
        the time in which the queue should drain) when it is full or too long for the deadline.
        """
        submit = request.submit
        variant = self._variants.get(submit.variant)
        if variant is None or request.cancelled or 0 < submit.deadline_ns <= now:
            raise refusal(request, variant, now)
        if variant.batched and not 0 < submit.rows <= variant.max_rows:
            raise variant.misfit(submit.rows)
        request.rows = submit.rows if variant.batched else 1
        version = variant.version
        if version.queued >= version.max_queue:
            raise version.overloaded(self.lanes)
        request.rank = variant.rank(submit.priority) if variant.levels else 0
        key = (submit.variant, submit.bucket)
        queue = self._queues.get(key)
        if submit.deadline_ns and not variant.levels:
            busy = self._running_ns if len(self._running) >= self.lanes else 0
            check_time(
                request, variant, self._tables.get(*key), self._queues.values(), self.lanes,
                self._waiting_ns, busy, now,
            )
        if queue is None:
            table = self._tables.use(key, variant.max_rows)
            queue = self._queues[key] = BucketQueue(variant, submit.bucket, table)
            # Time without work earns no credit.
            queue.share.virtual_ns = max(queue.share.virtual_ns, self._virtual_ns)
        version.queued += 1
        queue.push(request)
        self._wait(version, request.rows * queue.row_ns)
        if queue.ready_ns < self._ready_ns and version.running < version.max_running:
            self._ready_ns = queue.ready_ns
        if submit.deadline_ns:
            self._expiry_ns = min(self._expiry_ns, queue.expiry_ns())

    def cancel(self, request: Request) -> None:
        """The caller is gone. If it waits, `take_dropped` returns it; if it runs, it runs on."""
        request.cancelled = True
        if request.queued:
            queue = self._queues[request.submit.variant, request.submit.bucket]
            self._remove(queue, (request,))
            self._dropped.append((request, Cancelled("cancelled while it waited for a lane")))

    def drop_owner(self, owner: object) -> int:
        """Forget all requests of an owner that is gone; returns how many of them waited."""
        total = 0
        for queue in list(self._queues.values()):
            gone = [request for request in queue if request.owner is owner]
            self._remove(queue, gone)
            total += len(gone)
        self._dropped = [entry for entry in self._dropped if entry[0].owner is not owner]
        return total

    def take_dropped(self) -> list[tuple[Request, RequestError]]:
        """The requests that expired or were cancelled since the last call, with their errors."""
        dropped = self._dropped
        if dropped:
            self._dropped = []
        return dropped

    # --- batches -------------------------------------------------------------------------

    def next_batch(self, now: int) -> Batch | None:
        """The batch to start now, if any; it takes a lane until `finished`.

        Expired requests are dropped first, also when no lane is free.
        """
        if now >= self._expiry_ns:
            self._expire(now)
        if not self._queues or not self._budget.room or (self._running and now < self._ready_ns):
            return None
        queue = self._choose(now)
        return self._start(queue, now) if queue else None

    def wakeup(self, now: int) -> int | None:
        """When to call `next_batch` again if nothing else happens; None: no need to.

        It may be early: a call then finds nothing to do.
        """
        when = self._expiry_ns
        if self._budget.room:
            when = min(when, self._ready_ns)
        return None if when == NEVER else max(when, now)

    def finished(self, batch: Batch, now: int, service_ns: int | None) -> None:
        """A batch is done and its lane is free.

        `service_ns` is the time that the lane took; None: it failed, and nothing is learned.
        Raises ProtocolError for a batch that does not run.
        """
        started, version = self._running.pop(batch.id, (None, None))
        if started is not batch or version is None:
            raise ProtocolError(f"batch {batch.id} finished, but it does not run: reported twice?")
        alone_ns = None if service_ns is None else self._alone(batch)
        self._budget.finished(now, batch.lanes_mark, batch.started_ns, alone_ns)
        self._running_ns -= batch.charged_ns
        if self._queues:
            self._ready_ns = 0  # its version's limit, or want of a useful lane, may have kept some
        version.running -= 1
        variant = self._variants.get(batch.variant)
        if variant is None:
            return
        spent = now - batch.started_ns if service_ns is None else service_ns
        variant.version.share.virtual_ns += spent - batch.charged_ns
        # Decays, so that one long batch at the start does not make every deadline urgent.
        self._longest_ns = max(spent, self._longest_ns - self._longest_ns // 16)
        if service_ns is not None:
            variant.version.served(len(batch.requests), service_ns)
            self.learn(batch.variant, batch.bucket, batch.rows, service_ns)

    # --- what is known -------------------------------------------------------------------

    def pin(self, variant: int, bucket: Bucket, sizes: tuple[int, ...]) -> None:
        """Batches of a bucket are padded to these sizes from now on; () to none any more."""
        key = (variant, bucket)
        self._tables.pin(key, sizes)
        if key in self._queues:
            self._learned(key, self._tables.use(key, self._variants[variant].max_rows))

    def learn(self, variant: int, bucket: Bucket, rows: int, service_ns: int) -> None:
        """Teach the latency of a served variant, such as measured at warm-up."""
        key = (variant, bucket)
        table = self._tables.use(key, self._variants[variant].max_rows)
        table.record(rows, service_ns)
        self._learned(key, table)

    def cost(self, variant: int, bucket: Bucket, now: int = 0) -> Cost | None:
        """What batches take by their size, for the router; None when nothing was measured."""
        table = self._tables.get(variant, bucket)
        return None if table is None else table.cost(now)

    def estimate(self, batch: Batch) -> int | None:
        """How long a batch should take, in nanoseconds; None before the first measurement."""
        table = self._tables.get(batch.variant, batch.bucket)
        return None if table is None else table.estimate(batch.rows)

    def backlog_ns(self) -> int:
        """The lane time that everything which waits or runs should take, in batches as large as
        pays; what was never measured counts as nothing."""
        return self._waiting_ns + self._running_ns

    def statistics(self) -> BatcherStatistics:
        """How full everything is."""
        return BatcherStatistics(
            queued={key: version.queued for key, version in self._versions.items()},
            limits={key: version.max_queue for key, version in self._versions.items()},
            lanes=self.lanes_in_all, lanes_busy=len(self._running),
            buckets=len(self._queues), tables=len(self._tables),
        )

    # --- deciding ------------------------------------------------------------------------

    def _choose(self, now: int) -> BucketQueue | None:
        """The queue whose batch should start first, if one should start at all."""
        choice = choose(
            self._queues.values(), now, idle=not self._running,
            useful=self._budget.useful_room,
            near=now + self._longest_ns, lead=self._virtual_ns + LEAD_NS,
        )
        self._ready_ns = choice.soonest_ns
        if choice.queue is not None:
            self._virtual_ns = max(self._virtual_ns, choice.least_ns)
        return choice.queue

    def _learned(self, key: tuple[int, Bucket], table: LatencyTable) -> None:
        """A bucket's table has changed, or is another one: its own may have been forgotten."""
        queue = self._queues.get(key)
        if queue is not None:
            queue.table = table
            self._revalue(queue)
            queue.refresh()
            self._reconsider(queue)

    def _start(self, queue: BucketQueue, now: int) -> Batch:
        requests = queue.take()
        version = queue.version
        version.running += 1
        rows = sum([request.rows for request in requests])
        self._changed(queue, len(requests), rows)
        charged = queue.table.estimate(rows) or 0
        queue.share.virtual_ns += charged
        self._running_ns += charged
        ident = next(self._ids)
        mark = self._budget.started(now)
        batch = Batch(ident, queue.variant.id, queue.bucket, requests, rows, now, charged, mark)
        self._running[ident] = batch, version
        return batch

    def _alone(self, batch: Batch) -> int | None:
        table = self._tables.get(batch.variant, batch.bucket)
        return None if table is None else table.alone(batch.rows)

    def _expire(self, now: int) -> None:
        """Drop every request that can not be in time any more, and find the next such time."""
        soonest = NEVER
        for queue in list(self._queues.values()):
            soonest_here = queue.expiry_ns()
            if soonest_here <= now:
                expired = queue.take_expired(now)
                self._changed(queue, len(expired), sum([request.rows for request in expired]))
                self._dropped += [(request, too_late(request, now)) for request in expired]
                soonest_here = queue.expiry_ns()
            soonest = min(soonest, soonest_here)
        self._expiry_ns = soonest

    def _remove(self, queue: BucketQueue, requests: Collection[Request]) -> None:
        """Take requests out of a queue that they wait in."""
        for request in requests:
            queue.remove(request)
        self._changed(queue, len(requests), sum([request.rows for request in requests]))

    def _changed(self, queue: BucketQueue, left: int, rows: int) -> None:
        """So many requests, with so many rows, have left a queue."""
        queue.version.queued -= left
        self._wait(queue.version, -rows * queue.row_ns)
        if queue.count:
            queue.refresh()
            self._reconsider(queue)
            return
        del self._queues[queue.variant.id, queue.bucket]
        if not self._queues:
            self._ready_ns = self._expiry_ns = NEVER

    def _reconsider(self, queue: BucketQueue) -> None:
        """Look for a batch when this queue is ready, unless its version has all its lanes."""
        version = queue.version
        if queue.ready_ns < self._ready_ns and version.running < version.max_running:
            self._ready_ns = queue.ready_ns

    def _revalue(self, queue: BucketQueue) -> None:
        """What a row costs may have changed."""
        before = queue.row_ns
        queue.revalue()
        self._wait(queue.version, queue.rows * (queue.row_ns - before))

    def _wait(self, version: Version, more_ns: int) -> None:
        """So much more lane time waits, or less."""
        self._waiting_ns += more_ns
        version.waiting_ns += more_ns
