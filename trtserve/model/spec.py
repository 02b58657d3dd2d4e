"""What a model's versions and variants take and give: frozen data that crosses processes.

Shapes here are whole: where a variant is batched, dimension 0 is the batch. -1 is a dimension
that a request chooses.
"""

from enum import StrEnum

import msgspec

Shape = tuple[int, ...]

ANY = -1
"""A dimension without a fixed size, or a range without an upper end."""


class TensorSpec(msgspec.Struct, frozen=True):
    """One input or output as the engine declares it."""

    name: str
    datatype: str
    shape: Shape


class ShapeRange(msgspec.Struct, frozen=True):
    """The shapes that one input takes: each dimension within [min, max]; -1 as max: no end.

    `opt` is the shape that the engine was tuned for, where it says so.
    """

    min: Shape
    max: Shape
    opt: Shape | None = None

    def takes(self, shape: Shape) -> bool:
        """Whether a shape fits."""
        return len(shape) == len(self.min) and all(
            low <= dim and (high == ANY or dim <= high)
            for low, dim, high in zip(self.min, shape, self.max, strict=True)
        )

    def __str__(self) -> str:
        def dim(low: int, high: int) -> str:
            if low == high:
                return str(low)
            return f"{low}..{'' if high == ANY else high}"

        return "[" + ", ".join(map(dim, self.min, self.max)) + "]"


class VariantSpec(msgspec.Struct, frozen=True):
    """One way to run a version: an engine file and one optimization profile of it.

    `ranges` has one entry for each input, in the inputs' order. `max_batch` is 0 where
    dimension 0 is not a batch: such requests run one by one.
    """

    name: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    ranges: tuple[ShapeRange, ...]
    max_batch: int = 0


class QueuePolicy(msgspec.Struct, frozen=True):
    """How requests wait, under the names of Triton's `dynamic_batching`. Times in microseconds.

    `max_delay_us` None: the batcher's own choice from measured latencies. `max_queue_size` is
    in requests; 0 takes the server's default.
    """

    max_delay_us: int | None = None
    preferred_batch_sizes: tuple[int, ...] = ()
    max_queue_size: int = 0
    default_timeout_us: int = 0
    allow_timeout_override: bool = True
    priority_levels: int = 0
    default_priority: int = 0


class VersionSpec(msgspec.Struct, frozen=True):
    """One version of a model, loaded: everything that routing and metadata need.

    `config` is the serialized inference.ModelConfig that ModelConfig answers with. `labels` are
    names that clients may use for the version. `weight` is its share of the requests that name
    no version; None where the model's traffic is not split.
    """

    model: str
    version: int
    platform: str
    variants: tuple[VariantSpec, ...]
    queue: QueuePolicy = QueuePolicy()
    config: bytes = b""
    labels: tuple[str, ...] = ()
    weight: int | None = None

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """The inputs, their shapes widened over all variants."""
        return _widened(tuple(variant.inputs for variant in self.variants))

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """The outputs, their shapes widened over all variants."""
        return _widened(tuple(variant.outputs for variant in self.variants))


def _widened(lists: tuple[tuple[TensorSpec, ...], ...]) -> tuple[TensorSpec, ...]:
    """The first variant's tensors with -1 wherever another variant's dimension differs."""
    widened = []
    for index, first in enumerate(lists[0]):
        shapes = {tensors[index].shape for tensors in lists}
        shape = tuple(
            dims[0] if len(set(dims)) == 1 else ANY for dims in zip(*shapes, strict=True)
        )
        widened.append(TensorSpec(first.name, first.datatype, shape))
    return tuple(widened)


class ModelState(StrEnum):
    """The state of one version of a model, in the words of RepositoryIndex."""

    LOADING = "LOADING"
    READY = "READY"
    UNAVAILABLE = "UNAVAILABLE"
