"""Whether a request that comes can be answered by its deadline, as far as is known.

Taking it although it can not would cost it its whole time, and under overload every other request
too: what waits longest is served first, so that all are answered just too late.
"""

from collections.abc import Collection

from trtserve.worker.bucket_queue import BucketQueue
from trtserve.worker.latency import LatencyTable
from trtserve.worker.request import Request
from trtserve.worker.variant import Variant

MARGIN = 3, 2
"""The wait is taken to be half as long again as it should be: batches vary, and a request that was
taken and then comes too late is worse than one that is refused at once."""


def check_time(
    request: Request, variant: Variant, table: LatencyTable | None,
    queues: Collection[BucketQueue], lanes: int, waiting_ns: int, running_ns: int, now: int,
) -> None:
    """Raise Overloaded for a request that would wait beyond its deadline.

    `table` is its bucket's, `queues` all that wait, `waiting_ns` their lane time in all, and
    `running_ns` that of the batches that run, 0 while a lane is free.
    """
    version = variant.version
    service_ns = _service_ns(request, variant, table)
    left_ns = request.submit.deadline_ns - now - service_ns
    lanes = max(1, min(lanes, version.max_running))
    busy_ns = running_ns // 2  # half of it is over, on the average
    all_ns = (waiting_ns + busy_ns) // lanes
    if _in_time(all_ns, left_ns):
        return  # even if all that waits runs before
    # Each model that waits gets its share of the lanes.
    rivals = len({queue.share for queue in queues})
    wait_ns = (version.waiting_ns * rivals + busy_ns) // lanes
    if not _in_time(wait_ns, left_ns):
        above, below = MARGIN
        need_ns = min(all_ns, wait_ns) * above // below + service_ns
        raise version.too_slow(wait_ns, need_ns)


def _service_ns(request: Request, variant: Variant, table: LatencyTable | None) -> int:
    """What the batch takes that a request will be in, at most a full one. 0: nothing is known."""
    if table is None:
        return 0
    full = variant.full_rows or min(variant.max_rows, table.best_rows)
    return table.estimate(request.rows if variant.alone else max(request.rows, full)) or 0


def _in_time(wait_ns: int, left_ns: int) -> bool:
    """Whether a batch begins by the latest time that meets the deadline, which is in `left_ns`.

    Without a wait it is always tried: what is known may be wrong, and nobody else loses by it.
    """
    above, below = MARGIN
    return not wait_ns or wait_ns * above <= left_ns * below
