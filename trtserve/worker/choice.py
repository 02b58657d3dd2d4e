"""Which bucket's batch starts first. Pure.

By priority; then deadlines that would pass while another batch ran, the earliest first; then the
model that has had the least lane time; then the oldest.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from trtserve.worker.bucket_queue import NEVER, BucketQueue


@dataclass(frozen=True, slots=True)
class Choice:
    """The queue to start, if any; when the first of those that may start will be ready; and the
    least lane time that a model of those had which could start."""

    queue: BucketQueue | None
    soonest_ns: int
    least_ns: int


def choose(
    queues: Iterable[BucketQueue], now: int, *, idle: bool, useful: bool, near: int, lead: int
) -> Choice:
    """Look through the queues.

    A queue may start when it is ready, on a lane that is not `useful` when it is overdue, and at
    any time if the device is `idle`. A
    deadline is urgent if its latest start is before `near`, for models that had at most `lead`
    of lane time.
    """
    chosen: BucketQueue | None = None
    first: tuple[int, int, int, int] | None = None
    soonest = least = NEVER
    for queue in queues:
        version = queue.version
        if version.running >= version.max_running:
            continue
        ready = queue.ready_ns if useful else queue.overdue_ns
        if ready < soonest:
            soonest = ready
        if ready > now and not idle:
            continue
        virtual = queue.share.virtual_ns
        if virtual < least:
            least = virtual
        latest = queue.latest_ns
        # A deadline that cannot be met any more is not urgent: in a jam the hopeless would
        # otherwise make all others hopeless too.
        if now <= latest <= near and virtual <= lead:
            place = (queue.rank, 0, latest, queue.oldest_ns)
        else:
            place = (queue.rank, 1, virtual, queue.oldest_ns)
        if first is None or place < first:
            first = place
            chosen = queue
    return Choice(chosen, soonest, least)
