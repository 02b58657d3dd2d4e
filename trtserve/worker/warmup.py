"""What to warm a variant up with: the buckets that can be known, and the batch sizes."""

from collections.abc import Iterator, Sequence

from trtserve.ipc.message import Bucket
from trtserve.model.configuration import WarmupShapes
from trtserve.model.spec import ANY, VariantSpec
from trtserve.model.tensor import Shape

_FINE_FROM = 8
"""From this size on there is one more between two powers of two: a batch that is padded to the
next size wastes a third of it at most."""


def known_buckets(
    variant: VariantSpec, warmups: Sequence[WarmupShapes]
) -> Iterator[tuple[Bucket, tuple[int, ...]]]:
    """The buckets that requests will surely come in: the configuration's `model_warmup`, the
    profile's opt, max and min shapes, or the only shape there is.

    With the batch sizes to run where they are given, () for all.
    """
    seen: set[Bucket] = set()
    for warmup in warmups:
        by_name = {tensor.name: tensor.shape for tensor in warmup.inputs}
        shapes = tuple(by_name.get(tensor.name, ()) for tensor in variant.inputs)
        rows = warmup.batch_size if variant.max_batch else 1
        whole = [(rows, *shape) if variant.max_batch else shape for shape in shapes]
        if _takes(variant, whole):
            yield shapes, (rows,)
    for which in ("opt", "max", "min"):
        bucket = _profile_bucket(variant, which)
        if bucket is not None and bucket not in seen:
            seen.add(bucket)
            yield bucket, ()


def only_bucket(variant: VariantSpec) -> Bucket | None:
    """The bucket that every request comes in, where shapes leave no choice but the batch."""
    skip = 1 if variant.max_batch else 0
    if any(ranges.min[skip:] != ranges.max[skip:] for ranges in variant.ranges):
        return None
    return tuple(ranges.max[skip:] for ranges in variant.ranges)


def _profile_bucket(variant: VariantSpec, which: str) -> Bucket | None:
    """The bucket at one end of the variant's ranges; None where the engine gives no such end.

    The minimum of an open dimension says nothing: no one sends images of one pixel.
    """
    bucket: list[Shape] = []
    for shape_range in variant.ranges:
        skip = 1 if variant.max_batch else 0
        low, high = shape_range.min[skip:], shape_range.max[skip:]
        if ANY in high:
            return None
        if which == "opt":
            if shape_range.opt is None:
                return None
            bucket.append(shape_range.opt[skip:])
        else:
            bucket.append(high if which == "max" else low)
    return tuple(bucket)


def _takes(variant: VariantSpec, shapes: Sequence[Shape]) -> bool:
    return all(
        shape_range.takes(shape)
        for shape_range, shape in zip(variant.ranges, shapes, strict=True)
    )


def doubling_sizes(max_batch: int) -> tuple[int, ...]:
    """1, 2, 4 ... up to the largest batch."""
    sizes = [1]
    while sizes[-1] < max_batch:
        sizes.append(min(2 * sizes[-1], max_batch))
    return tuple(sizes)


def pinned_sizes(max_batch: int) -> tuple[int, ...]:
    """The sizes that contexts are made for: 1, 2, 4, 8, 12, 16, 24 ... up to the largest batch."""
    sizes: list[int] = []
    for size in doubling_sizes(max_batch):
        between = (sizes[-1] + size) // 2 if sizes else 0
        if sizes and sizes[-1] >= _FINE_FROM and between > sizes[-1]:
            sizes.append(between)
        sizes.append(size)
    return tuple(sizes)
