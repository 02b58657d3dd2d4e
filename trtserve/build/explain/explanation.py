"""What there is to tell of one engine file, as data: what went in, what came out, what was fused.

The same for TensorRT's plans and for ONNX Runtime's sessions, so that one report, one page and
one comparison serve both.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import Literal

import msgspec

from trtserve.model.spec import ShapeRange

Kind = Literal["onnx", "plan", "layers"]
"""An .onnx file; a plan; only what an inspector wrote of a plan."""

LONGEST_PATTERN = 10
"""Operators that a kind of fusion names in order; of a longer one only the sorts are named."""


class Node(msgspec.Struct, frozen=True):
    """One operator of the network as it was given, with the names of its tensors.

    `precision` is the datatype that it gives, and `shape` the shape; empty if not known.
    """

    name: str
    kind: str
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    precision: str = ""
    shape: str = ""


class Port(msgspec.Struct, frozen=True):
    """A tensor that a layer reads or writes. What is not known is empty."""

    name: str
    datatype: str = ""
    format: str = ""
    shape: str = ""


class LayerInfo(msgspec.Struct, frozen=True, kw_only=True):
    """One layer that runs. `fused` are the nodes it stands for: none if the optimiser added it.

    `reformat`: it only changes how a tensor is laid out, its datatype, or where it is.
    `time_share` is its part of a whole run, 0 to 1; None if nobody measured.
    """

    name: str
    kind: str
    fused: tuple[str, ...] = ()
    tactic: str = ""
    precision: str = ""
    provider: str = ""
    inputs: tuple[Port, ...] = ()
    outputs: tuple[Port, ...] = ()
    reformat: bool = False
    time_share: float | None = None


class Profile(msgspec.Struct, frozen=True):
    """One optimization profile: the shapes that it takes, and what a context needs for it."""

    name: str
    shapes: dict[str, ShapeRange]
    scratch_bytes: int | None = None


class Level(msgspec.Struct, frozen=True):
    """What one of ONNX Runtime's optimisation levels leaves, and what it takes to get there."""

    name: str
    nodes: int
    kinds: dict[str, int]
    seconds: float


class Note(msgspec.Struct, frozen=True):
    """Something to know that is not in the tables, and how to see more."""

    problem: str
    cure: str = ""


class Totals(msgspec.Struct, frozen=True, kw_only=True):
    """The explanation in numbers.

    `before` counts nodes but constants. Of those, `gone` stand in no layer: their results were
    computed ahead, or nothing needs them. `fusions` counts layers by what was fused into them;
    `fused` is how many nodes that took in. `added` counts layers by kind that no node stands for.
    `precision` counts layers, or nodes where no layers are known.
    """

    before: int
    constants: int
    after: int | None
    fused: int = 0
    gone: int = 0
    fusions: dict[str, int] = {}
    reformats: int = 0
    added: dict[str, int] = {}
    precision: dict[str, int] = {}
    providers: dict[str, int] = {}


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """Everything to tell of one engine file.

    `facts` are what it was made with and for, by name. `after` is None where nothing tells what
    runs. `profile` is the index of the one whose layers `after` has. `weights` are bytes by
    datatype.
    """

    name: str
    file: str
    kind: Kind
    facts: dict[str, str]
    totals: Totals
    profiles: tuple[Profile, ...] = ()
    profile: int = 0
    weights: dict[str, int] = {}
    levels: tuple[Level, ...] = ()
    before: tuple[Node, ...] = ()
    after: tuple[LayerInfo, ...] | None = None
    gone: tuple[str, ...] = ()
    notes: tuple[Note, ...] = ()


def count(
    before: Sequence[Node], after: Sequence[LayerInfo] | None, constants: int = 0
) -> Totals:
    """The totals of a network and the layers that it became."""
    if after is None:
        precision = Counter(node.precision for node in before if node.precision)
        return Totals(
            before=len(before), constants=constants, after=None, precision=_ranked(precision)
        )
    kinds = {node.name: node.kind for node in before}
    claimed = {name for layer in after for name in layer.fused}
    fusions: Counter[str] = Counter()
    for layer in after:
        if len(layer.fused) > 1:
            fusions[pattern(layer, kinds)] += 1
    return Totals(
        before=len(before),
        constants=constants,
        after=len(after),
        fused=sum(len(layer.fused) for layer in after if len(layer.fused) > 1),
        gone=len(gone(before, claimed)),
        fusions=_ranked(fusions),
        reformats=sum(layer.reformat for layer in after),
        added=_ranked(Counter(layer.kind for layer in after if _is_added(layer, kinds))),
        precision=_ranked(Counter(layer.precision or "unknown" for layer in after)),
        providers=_ranked(Counter(layer.provider for layer in after if layer.provider)),
    )


def gone(before: Iterable[Node], claimed: Iterable[str]) -> tuple[str, ...]:
    """The nodes that no layer stands for."""
    taken = set(claimed)
    return tuple(node.name for node in before if node.name not in taken)


def pattern(layer: LayerInfo, kinds: Mapping[str, str]) -> str:
    """What was fused into a layer, in words that are the same for all such layers."""
    operators = [kinds[name] for name in layer.fused if name in kinds]
    if not operators:
        # The network before building is not known: only how many there were.
        return f"{number_text(len(layer.fused), 'layer')} in one {layer.kind}"
    if len(list(groupby(operators))) > LONGEST_PATTERN:
        sorts = list(dict.fromkeys(operators))
        named = ", ".join(sorts[:LONGEST_PATTERN])
        more = ", ..." if len(sorts) > LONGEST_PATTERN else ""
        return f"{len(operators)} of {named}{more} → {layer.kind}"
    runs = [(kind, len(list(run))) for kind, run in groupby(operators)]
    parts = [kind if length == 1 else f"{length} {kind}" for kind, length in runs]
    return f"{' + '.join(parts)} → {layer.kind}"


def timed(
    layers: Iterable[LayerInfo], seconds: Mapping[str, float]
) -> tuple[LayerInfo, ...]:
    """Layers with their shares of the time, from measured times by a layer's name."""
    whole = sum(seconds.values())
    return tuple(
        msgspec.structs.replace(layer, time_share=seconds[layer.name] / whole)
        if layer.name in seconds and whole > 0 else layer
        for layer in layers
    )


def size_text(size: float) -> str:
    """A number of bytes as people read it."""
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"


def number_text(number: int, noun: str) -> str:
    """`1 layer`, `3 layers`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def shape_text(shape: Sequence[int]) -> str:
    """`1x3x224x224`, as profiles are given."""
    return "x".join(map(str, shape))


def mix_text(counts: Mapping[str, int]) -> str:
    """`12 FP16, 3 FP32`."""
    return ", ".join(f"{number} {name}" for name, number in counts.items()) or "none"


def _is_added(layer: LayerInfo, kinds: Mapping[str, str]) -> bool:
    """Whether no node stands behind it; unknown where there are no nodes to look at."""
    return bool(kinds) and not layer.fused


def _ranked(counter: Counter[str]) -> dict[str, int]:
    """The most frequent first, then by name."""
    return dict(sorted(counter.items(), key=lambda item: (-item[1], item[0])))
