"""What differs between two engine files, and why it matters. Pure."""

from collections import Counter
from collections.abc import Iterator, Sequence

import msgspec

from trtserve.build.explain.explanation import (
    Explanation,
    LayerInfo,
    Profile,
    mix_text,
    number_text,
    shape_text,
    size_text,
)
from trtserve.model.spec import Shape

MEANINGS = {
    "GPU": "Kernels are timed on the GPU that builds: another one has other units, memory and "
    "clocks, so others win. Neither plan runs on the other GPU unless it was built to",
    "built for": "A plan holds kernels for these GPUs only",
    "built with": "Another version has other kernels and other fusions, and loads only its own "
    "plans unless they were built to last",
    "driver": "It decides which plans load at all, and can shift close decisions",
    "CUDA": "Kernels are compiled by it: close decisions can fall otherwise",
    "ONNX model": "These are other weights or another graph: differences below may be the model's "
    "own",
    "mended": "The graph was rewritten before building: the builder saw another one",
    "precision": "Fewer bits are less to move and faster to multiply, and fewer digits: compare "
    "the results too",
    "optimization level": "It decides how much is fused and how many kernels are tried",
    "workspace": "Kernels that need more scratch memory than this were not tried",
    "loads in": "Plans for later versions too carry a runtime of their own, and lose some kernels",
    "hardware compatibility": "Only kernels that run on all those GPUs were tried",
    "timing cache": "Measurements that are not shared let close decisions fall otherwise at each "
    "build",
    "plan": "It is what is read at load, and nearly what the weights take on the GPU",
    "auxiliary streams": "Layers that run at once inside one inference: good for one lane, "
    "and in the way of several",
    "runs with": "Another version fuses other patterns",
    "providers": "Each provider has its own kernels and fusions",
    "size": "It is what is read at load",
    "opset": "Exporters write other operators for another opset, and other patterns are found",
    "weights as kept": "Layouts for the processor are padded",
}
"""Why a fact matters that two explanations may differ in. What is not here decides nothing."""

_CAUSES = frozenset({
    "GPU", "built for", "built with", "driver", "CUDA", "ONNX model", "mended", "precision",
    "optimization level", "workspace", "loads in", "hardware compatibility", "runs with",
    "providers", "opset",
})
"""Facts that can make other layers and kernels. The others follow, or are noise."""

_OPT = (
    "Kernels are timed at the opt shape only: other shapes of the range run with what won there"
)
_RANGE = "Only kernels for the whole range are tried: a wider one leaves fewer, and slower ones"
_SCRATCH = "A lane needs the largest of all scratch sizes once, not their sum"
_NOISE = (
    "Nothing above explains it: these were close decisions, which noise turns at any build. Keep "
    "a timing cache to make builds repeatable"
)
_FOLLOWS = "It follows from the differences above"


class Difference(msgspec.Struct, frozen=True):
    """One thing that is not alike, and what it means."""

    what: str
    this: str
    other: str
    meaning: str = ""


class LayerDifference(msgspec.Struct, frozen=True):
    """The same nodes as a layer of each, which differ in `what`; or a layer of one side only."""

    nodes: tuple[str, ...]
    what: str
    this: str
    other: str


class Comparison(msgspec.Struct, frozen=True):
    """All that differs between two files. `alike` layers stand for the same, by the same means.
    `nothing`: why layers were not compared, and what to do, where a file does not tell of its own.
    """

    this: str
    other: str
    differences: tuple[Difference, ...]
    layers: tuple[LayerDifference, ...]
    alike: int
    nothing: str = ""


def compare(this: Explanation, other: Explanation) -> Comparison:
    """Compare two explanations of the same model, or of what is meant to be."""
    causes = [*_facts(this, other), *_profiles(this, other)]
    explained = any(
        difference.what in _CAUSES or difference.what.endswith((" opt", " range"))
        for difference in causes
    )
    silent = [side.file for side in (this, other) if side.after is None]
    layers, alike = _layers(this.after or (), other.after or ()) if not silent else ((), 0)
    results = [
        *_totals(this, other),
        *_layer_counts(layers, _FOLLOWS if explained else _NOISE),
    ]
    if (this.after is None) != (other.after is None):
        left, right = ("not known" if its.after is None else "known" for its in (this, other))
        results.append(Difference(
            "layers that run", left, right, "Only one of them can be looked into"
        ))
    return Comparison(
        this.file, other.file, (*causes, *results), layers, alike, _nothing(silent, causes)
    )


def _nothing(silent: Sequence[str], causes: Sequence[Difference]) -> str:
    """Why there are no layers to compare, where these files do not tell of theirs."""
    if not silent:
        return ""
    without = "neither has" if len(silent) > 1 else f"{silent[0]} has no"
    built = f"{number_text(len(causes), 'difference')} in how they were built" if causes else (
        "nothing differs in how they were built"
    )
    return (
        f"{without} {'a ' if len(silent) > 1 else ''}report of its layers, so there are none to "
        f"compare; {built}. Build it where a GPU can load the plan: the manifest then keeps the "
        "report"
    )


def _facts(this: Explanation, other: Explanation) -> Iterator[Difference]:
    for name, meaning in MEANINGS.items():
        left, right = this.facts.get(name, ""), other.facts.get(name, "")
        if left != right:
            yield Difference(name, left or "not known", right or "not known", meaning)


def _profiles(this: Explanation, other: Explanation) -> Iterator[Difference]:
    if len(this.profiles) != len(other.profiles):
        yield Difference(
            "profiles", str(len(this.profiles)), str(len(other.profiles)),
            "Each one is a variant of its own, with its own kernels and a context on every lane",
        )
    for at, (left, right) in enumerate(zip(this.profiles, other.profiles, strict=False)):
        yield from _profile(at, left, right)


def _profile(at: int, left: Profile, right: Profile) -> Iterator[Difference]:
    for tensor in left.shapes.keys() & right.shapes.keys():
        one, two = left.shapes[tensor], right.shapes[tensor]
        if one.opt != two.opt:
            yield Difference(f"profile {at}, {tensor} opt", _shape(one.opt), _shape(two.opt), _OPT)
        if (one.min, one.max) != (two.min, two.max):
            yield Difference(f"profile {at}, {tensor} range", str(one), str(two), _RANGE)
    if left.scratch_bytes != right.scratch_bytes:
        yield Difference(
            f"profile {at}, scratch memory", _bytes(left), _bytes(right), _SCRATCH
        )


def _shape(shape: Shape | None) -> str:
    return "not known" if shape is None else shape_text(shape)


def _bytes(profile: Profile) -> str:
    return "not known" if profile.scratch_bytes is None else size_text(profile.scratch_bytes)


def _totals(this: Explanation, other: Explanation) -> Iterator[Difference]:
    left, right = this.totals, other.totals
    if left.before != right.before:
        yield Difference("nodes before", str(left.before), str(right.before),
                         "The optimisers were given other networks")
    if left.after is None or right.after is None:
        return
    for what, one, two, meaning in (
        ("layers that run", left.after, right.after, "Each one is a kernel to launch, or several"),
        ("nodes fused into others", left.fused, right.fused,
         "What is fused does not go through memory in between"),
        ("changes of layout", left.reformats, right.reformats,
         "They compute nothing: many mean that neighbours want other layouts or datatypes"),
    ):
        if one != two:
            yield Difference(what, str(one), str(two), meaning)
    if left.precision != right.precision:
        yield Difference(
            "layers by precision", mix_text(left.precision), mix_text(right.precision),
            MEANINGS["precision"],
        )


def _layers(
    this: Sequence[LayerInfo], other: Sequence[LayerInfo]
) -> tuple[tuple[LayerDifference, ...], int]:
    """The layers that differ, and how many do not. What was added on either side is left out."""
    left, right = _by_nodes(this), _by_nodes(other)
    found, alike = [], 0
    for nodes, layer in left.items():
        if nodes not in right:
            found.append(LayerDifference(nodes, "fused otherwise", _described(layer), ""))
            continue
        differences = list(_layer(nodes, layer, right[nodes]))
        found += differences
        alike += not differences
    found += [
        LayerDifference(nodes, "fused otherwise", "", _described(layer))
        for nodes, layer in right.items() if nodes not in left
    ]
    return tuple(found), alike


def _by_nodes(layers: Sequence[LayerInfo]) -> dict[tuple[str, ...], LayerInfo]:
    return {tuple(sorted(layer.fused)): layer for layer in layers if layer.fused}


def _layer(
    nodes: tuple[str, ...], this: LayerInfo, other: LayerInfo
) -> Iterator[LayerDifference]:
    for what, one, two in (
        ("kind", this.kind, other.kind),
        ("tactic", this.tactic, other.tactic),
        ("precision", this.precision, other.precision),
        ("provider", this.provider, other.provider),
        ("formats", _formats(this), _formats(other)),
    ):
        if one != two:
            yield LayerDifference(nodes, what, one, two)


def _formats(layer: LayerInfo) -> str:
    return ", ".join(port.format for port in (*layer.inputs, *layer.outputs) if port.format)


def _described(layer: LayerInfo) -> str:
    return " ".join(part for part in (layer.kind, layer.tactic, layer.precision) if part) or (
        layer.name
    )


def _layer_counts(layers: Sequence[LayerDifference], meaning: str) -> Iterator[Difference]:
    counted = Counter(
        (layer.what, bool(layer.this), bool(layer.other)) for layer in layers
    )
    for what in ("kind", "tactic", "precision", "provider", "formats"):
        number = sum(its for (name, *_), its in counted.items() if name == what)
        if number:
            text = number_text(number, "layer")
            yield Difference(f"other {what}", text, text, meaning)
    this = counted["fused otherwise", True, False]
    other = counted["fused otherwise", False, True]
    if this or other:
        yield Difference(
            "fused otherwise", number_text(this, "layer"), number_text(other, "layer"), meaning,
        )
