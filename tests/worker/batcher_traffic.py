"""Requests and latencies for the tests of the batcher."""

from collections.abc import Callable
from itertools import count

from trtserve.ipc.message import Bucket, Submit
from trtserve.model.spec import QueuePolicy
from trtserve.worker.batcher import Batcher
from trtserve.worker.latency import TRIALS
from trtserve.worker.request import Batch, Request

US = 1_000
MS = 1_000_000
SMALL: Bucket = ((3, 224, 224),)
LARGE: Bucket = ((3, 640, 640),)

_ids = count(1)


def request(
    now: int, bucket: Bucket = SMALL, *, variant: int = 1, rows: int = 1, deadline: int = 0,
    priority: int = 0, owner: object = None,
) -> Request:
    submit = Submit(next(_ids), variant, bucket, rows, (), (), now, deadline, priority)
    return Request(submit, owner)


def batcher(lanes: int = 1, max_batch: int = 32, **policy: object) -> Batcher:
    made = Batcher(lanes, 1000)
    made.add_variant(1, "model", 1, max_batch, QueuePolicy(**policy))  # type: ignore[arg-type]
    return made


def add(b: Batcher, now: int, times: int = 1, **options: object) -> list[Request]:
    requests = [request(now, **options) for _ in range(times)]  # type: ignore[arg-type]
    for each in requests:
        b.add(each, now)
    return requests


def start(b: Batcher, now: int) -> Batch:
    batch = b.next_batch(now)
    assert batch is not None
    return batch


def teach(
    b: Batcher, service: Callable[[int], int], sizes: tuple[int, ...] = (1, 2, 4, 8, 16, 32),
    bucket: Bucket = SMALL, variant: int = 1,
) -> None:
    for size in sizes:
        for _ in range(TRIALS):
            b.learn(variant, bucket, size, service(size))


def light(rows: int) -> int:
    return 4 * MS + 100 * US * rows
