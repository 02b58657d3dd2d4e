"""One lane's contexts for one variant."""

from bisect import bisect_left
from dataclasses import dataclass

from trtserve.engine.interface import Context
from trtserve.ipc.message import Bucket
from trtserve.worker.buffers import Place


@dataclass(frozen=True, slots=True)
class Pinned:
    """Contexts that were each made for one size of batch of one bucket. `sizes` rise.

    `places` are what they hold of the lane's memory.
    """

    sizes: tuple[int, ...]
    contexts: tuple[Context, ...]
    places: tuple[Place, ...] = ()


class LaneContexts:
    """Which context runs a batch.

    `any_shape` takes every shape that the variant takes; None where the pinned ones do. Only the
    worker's loop changes `pinned`, while it decides what runs. `places` are held for what
    `any_shape` was warmed up with.
    """

    __slots__ = ("any_shape", "pinned", "places")

    def __init__(self, any_shape: Context | None) -> None:
        self.any_shape = any_shape
        self.places: list[Place] = []
        self.pinned: dict[Bucket, Pinned] = {}

    def find(
        self, bucket: Bucket, rows: int, *, exact: bool = False
    ) -> tuple[Context, int]:
        """The context for a batch, and the rows to pad it to (0: run it as it is; so with
        `exact`).

        Raises LookupError if nothing takes it, which the loader has seen to.
        """
        pinned = self.pinned.get(bucket)
        if pinned is not None:
            index = bisect_left(pinned.sizes, rows)
            if index < len(pinned.sizes) and not (exact and pinned.sizes[index] > rows):
                size = pinned.sizes[index]
                return pinned.contexts[index], size if size > rows else 0
        if self.any_shape is None:
            raise LookupError(f"no context for {rows} rows of {bucket}")
        return self.any_shape, 0
