"""An explanation as tables of text, for terminals and for pages alike. Pure."""

from collections.abc import Iterator, Sequence

import msgspec

from trtserve.build.explain.compare import Comparison
from trtserve.build.explain.explanation import (
    Explanation,
    LayerInfo,
    Node,
    Port,
    Totals,
    mix_text,
    number_text,
    shape_text,
    size_text,
)

_KINDS = 6
"""Operators that a level's line names: the most frequent ones."""


class Table(msgspec.Struct, frozen=True):
    """A heading with a table below it."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def tables(explanation: Explanation) -> list[Table]:
    """Everything in tables, in the order in which to read it; empty ones are left out."""
    return [table for table in _tables(explanation) if table.rows]


def comparison_tables(comparison: Comparison) -> list[Table]:
    """What differs, and where."""
    found = (
        Table(
            "Differences", ("what", "this", "other", "why it matters"),
            tuple((d.what, d.this, d.other, d.meaning) for d in comparison.differences),
        ),
        Table(
            "Layers that differ", ("made of", "differs in", "this", "other"),
            tuple(
                (", ".join(layer.nodes), layer.what, layer.this, layer.other)
                for layer in comparison.layers
            ),
        ),
    )
    return [table for table in found if table.rows]


def comparison_line(comparison: Comparison) -> str:
    """The comparison in one sentence."""
    if comparison.nothing:
        return f"{comparison.this} against {comparison.other}: {comparison.nothing}"
    alike = number_text(comparison.alike, "layer")
    differences = number_text(len(comparison.differences), "difference")
    others = len({layer.nodes for layer in comparison.layers})
    return (
        f"{comparison.this} against {comparison.other}: {differences}; {alike} alike, {others} not."
    )


def summary(explanation: Explanation) -> list[str]:
    """The totals in sentences."""
    totals = explanation.totals
    before = number_text(totals.before, "node")
    if totals.constants:
        before += f" (and {number_text(totals.constants, 'constant')})"
    if totals.after is None:
        mix = f" They give {mix_text(totals.precision)}." if totals.precision else ""
        return [f"Before building: {before}.{mix}"] if totals.before else []
    after = number_text(totals.after, "layer")
    lines = [f"{before} became {after}." if totals.before else f"{after}."]
    if totals.fusions:
        layers = number_text(sum(totals.fusions.values()), "layer")
        lines.append(f"Fusions: {number_text(totals.fused, 'node')} went into {layers}.")
    if totals.gone:
        nodes = number_text(totals.gone, "node")
        lines.append(f"Gone: {nodes}; computed ahead, done once for several, or not needed.")
    if totals.added:
        lines.append(f"Added: {mix_text(totals.added)}.")
    lines.append(f"Changes of layout, datatype or place: {totals.reformats}.")
    lines.append(f"Precision of layers: {mix_text(totals.precision)}.")
    if totals.providers:
        lines.append(f"Providers: {mix_text(totals.providers)}.")
    return lines + list(_memory(explanation))


def fused_text(layer: LayerInfo, totals: Totals) -> str:
    """What a layer was made of, where that is not just what its name says."""
    if layer.fused == (layer.name,):
        return ""
    if not layer.fused:
        return "added" if layer.reformat or totals.before else ""
    return ", ".join(layer.fused)


def share_text(layer: LayerInfo) -> str:
    """`12.5 %`; empty where nobody measured."""
    return "" if layer.time_share is None else _percent(layer.time_share)


def _tables(explanation: Explanation) -> Iterator[Table]:
    yield Table(
        "Made with and for", ("what", "is"), tuple(explanation.facts.items())
    )
    yield Table(
        "Profiles", ("profile", "tensor", "min", "opt", "max", "scratch memory"),
        tuple(_profile_rows(explanation)),
    )
    yield Table(
        "Levels of optimisation", ("level", "nodes", "made in", "most of them"),
        tuple(_level_rows(explanation)),
    )
    if explanation.after is None:
        yield Table(
            "The network before building",
            ("", "node", "kind", "precision", "shape", "takes"),
            tuple(_node_row(at, node) for at, node in enumerate(explanation.before)),
        )
    else:
        yield _without_empty_columns(Table(
            "Layers that run",
            ("", "layer", "kind", "made of", "tactic", "precision", "reads", "writes",
             "provider", "share of the time"),
            tuple(_layer_rows(explanation, explanation.after)),
        ))
    yield Table(
        "Fusions", ("layers", "what became what"),
        tuple((str(number), kind) for kind, number in explanation.totals.fusions.items()),
    )
    yield Table(
        "Where the time goes", ("kind of layer", "layers", "share of the time"),
        tuple(_time_rows(explanation.after or ())),
    )
    yield Table("Good to know", ("what", "what to do"), tuple(
        (note.problem, note.cure) for note in explanation.notes
    ))


def _profile_rows(explanation: Explanation) -> Iterator[tuple[str, ...]]:
    for at, profile in enumerate(explanation.profiles):
        heading = f"{at}" if profile.name in ("", str(at)) else f"{at} ({profile.name})"
        scratch = "" if profile.scratch_bytes is None else size_text(profile.scratch_bytes)
        for tensor, shapes in profile.shapes.items():
            opt = shape_text(shapes.opt) if shapes.opt is not None else ""
            yield heading, tensor, shape_text(shapes.min), opt, shape_text(shapes.max), scratch
            heading = scratch = ""


def _level_rows(explanation: Explanation) -> Iterator[tuple[str, ...]]:
    for level in explanation.levels:
        kinds = list(level.kinds.items())
        more = ", ..." if len(kinds) > _KINDS else ""
        yield (
            level.name, str(level.nodes), f"{level.seconds:.2f} s",
            mix_text(dict(kinds[:_KINDS])) + more,
        )


def _layer_rows(
    explanation: Explanation, layers: Sequence[LayerInfo]
) -> Iterator[tuple[str, ...]]:
    several = len(explanation.totals.providers) > 1
    for at, layer in enumerate(layers):
        yield (
            str(at), layer.name, layer.kind, fused_text(layer, explanation.totals), layer.tactic,
            layer.precision, _ports_text(layer.inputs), _ports_text(layer.outputs),
            layer.provider if several else "", share_text(layer),
        )


def _time_rows(layers: Sequence[LayerInfo]) -> Iterator[tuple[str, ...]]:
    shares: dict[str, list[float]] = {}
    for layer in layers:
        if layer.time_share is not None:
            shares.setdefault(layer.kind, []).append(layer.time_share)
    for kind, its in sorted(shares.items(), key=lambda item: -sum(item[1])):
        yield kind, str(len(its)), _percent(sum(its))


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _node_row(at: int, node: Node) -> tuple[str, ...]:
    return str(at), node.name, node.kind, node.precision, node.shape, ", ".join(node.inputs)


def _ports_text(ports: Sequence[Port]) -> str:
    """Formats, datatypes and shapes; a tensor of which nothing but the name is known has none."""
    parts = (
        " ".join(filter(None, (port.format or port.datatype, port.shape))) for port in ports
        if port.format or port.shape
    )
    return "; ".join(parts)


def _without_empty_columns(table: Table) -> Table:
    kept = [
        at for at in range(len(table.columns)) if at == 0 or any(row[at] for row in table.rows)
    ]
    return Table(
        table.title, tuple(table.columns[at] for at in kept),
        tuple(tuple(row[at] for at in kept) for row in table.rows),
    )


def _memory(explanation: Explanation) -> Iterator[str]:
    known = [p.scratch_bytes for p in explanation.profiles if p.scratch_bytes is not None]
    if known:
        yield (
            f"Scratch memory: {size_text(max(known))} on each lane, the largest of all profiles; "
            f"apart they would need {size_text(sum(known))}."
        )
