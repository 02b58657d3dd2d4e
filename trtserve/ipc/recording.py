"""What a recording is made of: batches, as lanes ran them."""

import msgspec

from trtserve.model.spec import Shape


class TracedBatch(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One batch as a lane ran it. Times on the host's monotonic clock; durations in nanoseconds.

    `requests` are (front end, its id, arrived_ns). It left the queue at `started_ns`; the lane
    began to gather at `began_ns`, and the four stages follow one another from there. `rows` came
    from clients; the engine ran `padded` rows. `error` is the failure's text, "" without one.
    """

    id: int
    model: str
    version: int
    variant: str
    bucket: tuple[Shape, ...]
    lane: int
    rows: int
    padded: int
    requests: tuple[tuple[str, int, int], ...]
    started_ns: int
    began_ns: int
    stage_ns: int
    h2d_ns: int
    compute_ns: int
    d2h_ns: int
    error: str = ""
