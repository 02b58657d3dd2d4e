"""Routing: which variant of a version takes a request's shapes. Pure."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from trtserve.errors import InvalidRequest
from trtserve.model.catalog import Bucket, Version
from trtserve.model.cost import Cost, request_ns, usual_rows
from trtserve.model.spec import ANY, TensorSpec, VariantSpec, VersionSpec
from trtserve.model.tensor import Shape


@dataclass(frozen=True, slots=True)
class Route:
    """Where a request goes: the spec's variant of that index, its bucket, its rows.

    A variant that is not batched takes the request whole, as one row.
    """

    variant: int
    bucket: Bucket
    rows: int


def route(version: Version, shapes: Sequence[Shape]) -> Route:
    """Pick the variant that takes these whole input shapes, given in the spec's order.

    Where several do: the one that takes the least of a batch such as the request will likely be
    in, if all of them were measured for this bucket, else the tightest. Raises InvalidRequest
    that says what came and lists what fits.
    """
    spec = version.spec
    assert spec is not None  # resolve() gives no version without
    candidates: list[tuple[int, Route]] = []
    for index, variant in enumerate(spec.variants):
        found = fit_variant(variant, index, shapes)
        if found is not None:
            candidates.append((index, found))
    if not candidates:
        raise InvalidRequest(_refusal(spec, shapes))
    if len(candidates) == 1:
        return candidates[0][1]
    cheapest = _cheapest(version, [found for _, found in candidates])
    if cheapest is not None:
        return cheapest
    return min(candidates, key=lambda pair: _slack(spec.variants[pair[0]]))[1]


def _cheapest(version: Version, candidates: Sequence[Route]) -> Route | None:
    """The one whose batches take least; None if any was never measured.

    Batches have as many rows as the request, or as batches of that bucket have lately: a small
    one while few requests come, a large one under load.
    """
    measured = [version.costs(found.variant, found.bucket) for found in candidates]
    if not all(measured):
        return None
    variants = version.spec.variants if version.spec is not None else ()
    usual = usual_rows([cost for costs in measured for cost in costs])

    def least_ns(pair: tuple[Route, list[Cost]]) -> int:
        found, costs = pair
        rows = usual if variants[found.variant].max_batch else 0
        return min(request_ns(cost, found.rows, rows) for cost in costs)

    return min(zip(candidates, measured, strict=True), key=least_ns)[0]


def fit_variant(variant: VariantSpec, index: int, shapes: Sequence[Shape]) -> Route | None:
    """How the variant of that index would run these whole input shapes; None if it takes none
    such."""
    if not all(
        shape_range.takes(shape)
        for shape_range, shape in zip(variant.ranges, shapes, strict=True)
    ):
        return None
    if not variant.max_batch:
        return Route(index, tuple(shapes), 1)
    rows = shapes[0][0]
    if not 1 <= rows <= variant.max_batch or any(shape[0] != rows for shape in shapes):
        return None
    return Route(index, tuple(shape[1:] for shape in shapes), rows)


def _slack(variant: VariantSpec) -> tuple[int, float]:
    """How much more a variant takes than one shape: the smaller, the tighter.

    Open dimensions first, then the sum over dimensions of log(max / min).
    """
    pairs = [
        pair
        for shape_range in variant.ranges
        for pair in zip(shape_range.min, shape_range.max, strict=True)
    ]
    is_open = sum(high == ANY for _, high in pairs)
    spread = sum(math.log(high / max(low, 1)) for low, high in pairs if high > 0)
    return is_open, spread


def describe_variant(variant: VariantSpec) -> str:
    """The inputs that a variant takes, for people: `x FP32[1..32, 3, 1.., 1..]`."""
    return ", ".join(
        f"{tensor.name} {tensor.datatype}{_bounded(shape_range_text, variant, index)}"
        for index, (tensor, shape_range_text) in enumerate(
            zip(variant.inputs, map(str, variant.ranges), strict=True)
        )
    )


def _bounded(text: str, variant: VariantSpec, index: int) -> str:
    """The range's text with the batch limit as the upper end of dimension 0."""
    shape_range = variant.ranges[index]
    if variant.max_batch and shape_range.max and shape_range.max[0] == ANY:
        high = variant.max_batch
        first = str(high) if shape_range.min[0] == high else f"{shape_range.min[0]}..{high}"
        return "[" + ", ".join([first, *text[1:-1].split(", ")[1:]]) + "]"
    return text


def _refusal(spec: VersionSpec, shapes: Sequence[Shape]) -> str:
    came = ", ".join(
        f"{tensor.name} {tensor.datatype}{list(shape)}"
        for tensor, shape in zip(spec.inputs, shapes, strict=True)
    )
    fits = "; or ".join(describe_variant(variant) for variant in spec.variants)
    why = _why(spec, shapes)
    return f"model '{spec.model}' version {spec.version} got {came}{why}; it takes {fits}"


def _why(spec: VersionSpec, shapes: Sequence[Shape]) -> str:
    """The first thing wrong, where one variant leaves no doubt which."""
    if len(spec.variants) != 1:
        return ""
    variant = spec.variants[0]
    for tensor, shape_range, shape in zip(variant.inputs, variant.ranges, shapes, strict=True):
        if len(shape) != len(shape_range.min):
            return f": {tensor.name} must have {len(shape_range.min)} dimensions"
        for index, (low, dim, high) in enumerate(
            zip(shape_range.min, shape, shape_range.max, strict=True)
        ):
            if dim < low or (high != ANY and dim > high):
                return f": dimension {index} of {tensor.name} is out of range"
    rows = [shape[0] for shape in shapes if shape]
    if rows and max(rows) > variant.max_batch:
        return f": {max(rows)} rows are more than the largest batch"
    return ": all inputs must have the same number of rows"


def tensors_text(tensors: Sequence[TensorSpec]) -> str:
    """Tensors for people: `x FP32[-1, 3, 224, 224]`."""
    return ", ".join(f"{tensor.name} {tensor.datatype}{list(tensor.shape)}" for tensor in tensors)
