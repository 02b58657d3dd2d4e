"""What a lane is given and what it gives back."""

import msgspec

from trtserve.engine.interface import Context
from trtserve.errors import TrtserveError
from trtserve.ipc.message import Bucket, OutputBlock
from trtserve.model.spec import VariantSpec


class LaneJob(msgspec.Struct, frozen=True):
    """One batch to run.

    `context` belongs to the lane. `bucket` has each input's shape, without the batch dimension
    where `batched`. For each request: `rows` has its rows, `inputs` the (address, bytes) of each
    of its inputs, which must stay untouched until the result. `wanted` are the indices of the
    outputs that any request wants. Not batched: exactly one request. `padded`: the rows that the
    engine runs, where they are more than the requests' (what the others hold does not matter); 0:
    no more.
    """

    batch_id: int
    context: Context
    variant: VariantSpec
    batched: bool
    bucket: Bucket
    rows: tuple[int, ...]
    inputs: tuple[tuple[tuple[int, int], ...], ...]
    wanted: frozenset[int]
    padded: int = 0


class LaneResult(msgspec.Struct, frozen=True):
    """How a batch went. Times in nanoseconds; `began_ns` and `finished_ns` are points of the
    monotonic clock.

    Without an error: `outputs` has the wanted outputs by index, and `blocks` the offsets in the
    output arena that the receiver frees once they are read. With an error no block is held.
    `padded` is the job's.
    """

    batch_id: int
    lane: int
    finished_ns: int
    error: TrtserveError | None = None
    outputs: tuple[OutputBlock, ...] = ()
    blocks: tuple[int, ...] = ()
    stage_ns: int = 0
    h2d_ns: int = 0
    compute_ns: int = 0
    d2h_ns: int = 0
    began_ns: int = 0
    padded: int = 0

    @property
    def service_ns(self) -> int:
        """All stages together: how long the lane was taken."""
        return self.stage_ns + self.h2d_ns + self.compute_ns + self.d2h_ns
