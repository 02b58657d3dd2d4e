"""Batches as the client gives them, with times in microseconds from 0."""

from typing import Any

from trtserve.client import TracedBatch, TracedRequest
from trtserve.clock import NS_PER_US


def batch(
    began: int, stage: int = 0, h2d: int = 0, compute: int = 0, d2h: int = 0, *,
    requests: tuple[tuple[int, int], ...] = (), started: int | None = None, **fields: Any,
) -> TracedBatch:
    """A batch of one row, that began when it left the queue if nothing else is said.

    `requests` are (id, arrival) at front end 1.
    """
    values: dict[str, Any] = {
        "device": "cuda:0", "id": 1, "model": "m", "version": 1, "variant": "v",
        "bucket": ((4,),), "lane": 0, "rows": 1, "padded_rows": 1, "error": "",
    }
    return TracedBatch(
        requests=tuple(
            TracedRequest("front end 1", number, arrived * NS_PER_US)
            for number, arrived in requests
        ),
        started_ns=(began if started is None else started) * NS_PER_US,
        began_ns=began * NS_PER_US,
        stage_ns=stage * NS_PER_US,
        h2d_ns=h2d * NS_PER_US,
        compute_ns=compute * NS_PER_US,
        d2h_ns=d2h * NS_PER_US,
        **{**values, **fields},
    )
