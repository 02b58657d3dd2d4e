"""Optimization profiles: the shapes that a plan takes, written down and checked.

A profile has for each input the smallest shape, the one that kernels are tuned for, and the
largest. As text: `x=1x3x224x224,8x3x224x224,32x3x224x224;y=...`, or one shape for all three.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from trtserve.build.graph import Dims, Graph, GraphTensor
from trtserve.build.guess import SizeRange, guess_sizes, open_dims
from trtserve.errors import ConfigurationError
from trtserve.model.spec import Shape, ShapeRange

BATCHES = (1, 8, 32)
"""Rows of the smallest, the usual and the largest batch, where nobody says otherwise."""

_EXAMPLE = "x=1x3x224x224,8x3x224x224,32x3x224x224"

_SIZE_CURE = "Write numbers with an x between them, such as 224 or 224x320"


@dataclass(frozen=True, slots=True)
class Profile:
    """One optimization profile. Each range has its `opt`; shapes are whole, the batch first."""

    shapes: Mapping[str, ShapeRange]
    name: str = ""

    @property
    def text(self) -> str:
        """As `parse_profile` reads it."""
        return ";".join(
            f"{name}={','.join(map(_joined, (one.min, opt(one), one.max)))}"
            for name, one in self.shapes.items()
        )

    def opts(self) -> dict[str, Shape]:
        """The shapes that kernels are tuned for."""
        return {name: opt(one) for name, one in self.shapes.items()}


def opt(one: ShapeRange) -> Shape:
    """The shape that kernels are tuned for."""
    return one.max if one.opt is None else one.opt


def parse_profile(text: str, graph: Graph | None = None, name: str = "") -> Profile:
    """Read a profile, and check it against the graph where one is given.

    Raises ConfigurationError.
    """
    shapes: dict[str, ShapeRange] = {}
    for part in filter(None, (part.strip() for part in text.split(";"))):
        # A name may have `=` in it; shapes have not.
        tensor, equals, written = part.rpartition("=")
        tensor = tensor.strip()
        found = [_read_shape(one, part) for one in written.split(",")]
        if not equals or not tensor or len(found) not in (1, 3):
            raise _wrong(f"'{part}' is not an input with its min, opt and max shape")
        if tensor in shapes:
            raise _wrong(f"input '{tensor}' is there twice")
        shapes[tensor] = ShapeRange(found[0], found[-1], found[len(found) // 2])
    if not shapes:
        raise _wrong("it is empty")
    profile = Profile(shapes, name)
    return profile if graph is None else check(profile, graph)


def from_sizes(
    graph: Graph, sizes: Sequence[str], batches: Sequence[int] = BATCHES
) -> list[Profile]:
    """One profile for each size, such as `224` or `224x320`, for batches of min, opt and max.

    A size gives the open dimensions behind the batch, one number for all or one for each.
    Raises ConfigurationError.
    """
    rows = _batch_range(batches)
    profiles = []
    for size in dict.fromkeys(sizes):
        if not re.fullmatch(r"[1-9]\d*(x[1-9]\d*)*", size.strip()):
            raise ConfigurationError(f"'{size}' is not a size", where="sizes", cure=_SIZE_CURE)
        numbers = tuple(map(int, size.strip().split("x")))
        _check_takes_size(graph, numbers, size)
        shapes = {}
        for tensor in graph.inputs:
            _check_ranked(tensor)
            ranges = iter(_sized(tensor, numbers, size.strip()))
            shapes[tensor.name] = range_of(tensor.dims, rows, [(n, n, n) for n in ranges])
        profiles.append(check(Profile(shapes, size.strip()), graph))
    return profiles


def range_of(dims: Dims, rows: SizeRange, sizes: Sequence[SizeRange]) -> ShapeRange:
    """The range of an input whose open dimensions get these, the batch and then the others."""
    rest = iter(sizes)
    chosen: list[SizeRange] = []
    for at, dim in enumerate(dims):
        if isinstance(dim, int):
            chosen.append((dim, dim, dim))
        else:
            chosen.append(rows if at == 0 else next(rest))
    low, usual, high = (tuple(one[which] for one in chosen) for which in range(3))
    return ShapeRange(low, high, usual)


def check(profile: Profile, graph: Graph) -> Profile:
    """The profile, if it fits the graph. Raises ConfigurationError."""
    names = [tensor.name for tensor in graph.inputs]
    unknown = [name for name in profile.shapes if name not in names]
    if unknown:
        raise _wrong(f"the model has no input '{unknown[0]}'; it has {_listed(names)}")
    missing = [name for name in names if name not in profile.shapes]
    if missing:
        raise _wrong(f"input '{missing[0]}' has no shapes")
    for tensor in graph.inputs:
        _check_ranked(tensor)
        fault = _fault(tensor, profile.shapes[tensor.name])
        if fault:
            raise ConfigurationError(
                f"input {tensor}: {fault}",
                where=f"profile {profile.name}".strip(),
                cure="Give shapes that fit the model, or open the dimension in the model",
            )
    return profile


def derive(
    graph: Graph, batches: Sequence[int] = BATCHES
) -> tuple[list[Profile], list[str]]:
    """A profile for a graph that nobody gave sizes for, and what it rests on, line by line.

    Raises ConfigurationError where no sizes are found that the model runs with.
    """
    rows = _batch_range(batches)
    for tensor in graph.inputs:
        _check_ranked(tensor)
    sizes, explanation = guess_sizes(graph)
    shapes = {
        tensor.name: range_of(
            tensor.dims, rows, [sizes[tensor.name, at] for at in open_dims(tensor)]
        )
        for tensor in graph.inputs
    }
    return [check(Profile(shapes), graph)], [*_explain_batch(graph, rows), *explanation]


def _explain_batch(graph: Graph, rows: SizeRange) -> Iterator[str]:
    low, usual, high = rows
    for tensor in graph.inputs:
        if tensor.dims and isinstance(tensor.dims[0], int):
            yield f"{tensor.name}: exactly {tensor.dims[0]} at a time, as the model has it"
        elif tensor.dims:
            text = f"{low}" if low == high else f"{low} to {high}, tuned for {usual}"
            yield f"{tensor.name}: batches of {text}"


def _fault(tensor: GraphTensor, one: ShapeRange) -> str:
    """What is wrong with an input's shapes; empty: nothing."""
    usual = opt(one)
    for shape in (one.min, usual, one.max):
        if len(shape) != len(tensor.dims):
            return f"{_joined(shape)} has {len(shape)} dimensions and not {len(tensor.dims)}"
        for at, (dim, size) in enumerate(zip(tensor.dims, shape, strict=True)):
            if isinstance(dim, int) and dim != size:
                return f"dimension {at} of {_joined(shape)} is fixed to {dim} in the model"
    for at, (low, middle, high) in enumerate(zip(one.min, usual, one.max, strict=True)):
        if not 1 <= low <= middle <= high:
            return f"dimension {at} is {low}, {middle}, {high}, which is not min <= opt <= max"
    return ""


def _check_takes_size(graph: Graph, numbers: Shape, size: str) -> None:
    """Refuse a size where all inputs are fixed to others."""
    if any(open_dims(tensor) for tensor in graph.inputs):
        return
    for tensor in graph.inputs:
        behind = tensor.dims[1:]
        # One number is a square; a size may stand before the channels or behind them.
        for wanted in {numbers, numbers * 2 if len(numbers) == 1 else numbers}:
            if any(behind[at : at + len(wanted)] == wanted for at in range(len(behind))):
                return
    raise ConfigurationError(
        f"no input has an open dimension for size {size.strip()}: the model takes "
        f"{'; '.join(map(str, graph.inputs))}",
        where="sizes",
        cure="Export the model with open sizes, or leave this size out",
    )


def _sized(tensor: GraphTensor, numbers: Shape, size: str) -> Iterator[int]:
    """What the open dimensions of an input get of a size."""
    places = open_dims(tensor)
    if not places:
        return iter(())
    if len(numbers) not in (1, len(places)):
        raise ConfigurationError(
            f"input {tensor} has {len(places)} open dimensions behind the batch and size {size} "
            f"gives {len(numbers)}",
            where="sizes",
            cure="Give one number for all of them, or one for each; --profile takes whole shapes",
        )
    return iter(numbers * len(places) if len(numbers) == 1 else numbers)


def _batch_range(batches: Sequence[int]) -> SizeRange:
    """One number stands for min, opt and max; two for min and max, with opt at max."""
    found = sorted(batches)
    if list(batches) != found or not 1 <= len(found) <= 3 or found[0] < 1:
        raise ConfigurationError(
            f"'{','.join(map(str, batches))}' is not a range of batches", where="batch",
            cure="Give the smallest, the usual and the largest, such as 1,8,32",
        )
    return found[0], found[len(found) // 2], found[-1]


def _check_ranked(tensor: GraphTensor) -> None:
    if not tensor.ranked:
        raise ConfigurationError(
            f"input {tensor} does not say how many dimensions it has", where="profile",
            cure="Export the model with the shapes of its inputs",
        )


def _read_shape(text: str, part: str) -> Shape:
    if not re.fullmatch(r"\s*\d+(x\d+)*\s*", text):
        raise _wrong(f"'{text.strip()}' in '{part}' is not a shape")
    return tuple(map(int, text.strip().split("x")))


def _joined(shape: Shape) -> str:
    return "x".join(map(str, shape))


def _listed(names: Sequence[str]) -> str:
    return ", ".join(f"'{name}'" for name in names)


def _wrong(problem: str) -> ConfigurationError:
    return ConfigurationError(
        problem, where="profile", cure=f"Write min, opt and max shape, such as {_EXAMPLE}"
    )
