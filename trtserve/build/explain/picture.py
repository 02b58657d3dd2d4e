"""The network before and after, as one SVG: each layer that runs beside the nodes it stands for.

One node is one line. On the left are the nodes as they were given, on the right the layers that
run, each as tall as the nodes it took in. Arcs lead past what lies between a tensor's giver and
its taker; from one line to the next no arc is needed.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape

from trtserve.build.explain.explanation import Explanation, LayerInfo, Node

LINE = 20
"""Pixels from one line to the next."""

_BOX = 430
"""Pixels of width of a box, and how many characters fit in it."""
_LETTERS = 62

_GUTTER = 90
_LANE_STEP = 9
_LANES = 9
"""Arcs side by side; more share the outermost lane."""

_INDENT = 14
"""Pixels from a box's edge to a straight line between boxes."""

_MIDDLE = 70
_LEFT = _GUTTER
_RIGHT = _LEFT + _BOX + _MIDDLE
WIDTH = _RIGHT + _BOX + _GUTTER


@dataclass(frozen=True, slots=True)
class Box:
    """What stands on one side, from line `top` to before `bottom`."""

    text: str
    details: str
    style: str
    top: int
    bottom: int
    share: float = 0.0


@dataclass(frozen=True, slots=True)
class Placed:
    """Both sides, with the arcs of each as (giver's box, taker's box)."""

    left: tuple[Box, ...]
    right: tuple[Box, ...]
    left_arcs: tuple[tuple[int, int], ...]
    right_arcs: tuple[tuple[int, int], ...]
    joined: tuple[tuple[int, int], ...]
    lines: int


def picture(explanation: Explanation) -> str:
    """The SVG element; empty if there is nothing to draw."""
    placed = place(explanation)
    if not placed.lines:
        return ""
    label = "The network before, on the left, and the layers that run, on the right"
    parts = [
        f'<svg role="img" aria-label="{label}" width="{WIDTH}" '
        f'height="{placed.lines * LINE + LINE}" viewBox="0 0 {WIDTH} '
        f'{placed.lines * LINE + LINE}">',
        *_arcs(placed.left, placed.left_arcs, _LEFT, -1),
        *_arcs(placed.right, placed.right_arcs, _RIGHT + _BOX, 1),
        *_joints(placed),
        *(_box(box, _LEFT) for box in placed.left),
        *(_box(box, _RIGHT) for box in placed.right),
        "</svg>",
    ]
    return "".join(parts)


def place(explanation: Explanation) -> Placed:
    """Where everything stands. Nodes that no layer stands for come last."""
    nodes = {node.name: node for node in explanation.before}
    left: list[Box] = []
    right: list[Box] = []
    joined: list[tuple[int, int]] = []
    where: dict[str, int] = {}
    line = 0
    for layer in explanation.after or ():
        own = [nodes[name] for name in layer.fused if name in nodes and name not in where]
        joined += [(len(left) + at, len(right)) for at in range(len(own))]
        for at, node in enumerate(own):
            where[node.name] = len(left)
            left.append(_node_box(node, line + at))
        height = max(1, len(own))
        right.append(_layer_box(layer, line, line + height))
        line += height
    style = "node" if explanation.after is None else "gone"
    for node in explanation.before:
        if node.name not in where:
            where[node.name] = len(left)
            left.append(_node_box(node, line, style))
            line += 1
    return Placed(
        tuple(left), tuple(right),
        tuple(_edges(
            (where[node.name], node.inputs, node.outputs) for node in explanation.before
        )),
        tuple(_edges(
            (at, [port.name for port in layer.inputs], [port.name for port in layer.outputs])
            for at, layer in enumerate(explanation.after or ())
        )),
        tuple(joined), line,
    )


def lanes(arcs: Iterable[tuple[int, int]]) -> dict[tuple[int, int], int]:
    """A lane for each arc, from line to line, so that arcs in one lane do not overlap."""
    ends: list[int] = []
    found = {}
    for begin, end in sorted(set(arcs), key=lambda arc: (arc[0], arc[1])):
        lane = next((at for at, last in enumerate(ends) if last <= begin), len(ends))
        if lane == len(ends):
            ends.append(end)
        else:
            ends[lane] = end
        found[begin, end] = lane
    return found


def _edges(
    boxes: Iterable[tuple[int, Sequence[str], Sequence[str]]]
) -> Iterator[tuple[int, int]]:
    """Which box takes what another gives. Names are given anew in some engines: the last counts."""
    givers: dict[str, int] = {}
    for at, takes, gives in boxes:
        for tensor in takes:
            if tensor in givers and givers[tensor] != at:
                yield givers[tensor], at
        givers.update(dict.fromkeys(gives, at))


def _node_box(node: Node, line: int, style: str = "node") -> Box:
    details = f"{node.kind} {node.name}"
    return Box(details, details, style, line, line + 1)


def _layer_box(layer: LayerInfo, top: int, bottom: int) -> Box:
    style = "moved" if layer.reformat else "fused" if len(layer.fused) > 1 else "node"
    share = layer.time_share or 0.0
    text = f"{layer.kind} {layer.name}" if layer.kind else layer.name
    if layer.time_share is not None:
        text = f"{100 * share:.1f} % {text}"
    known: Mapping[str, str] = {
        "tactic": layer.tactic, "precision": layer.precision, "provider": layer.provider,
        "made of": ", ".join(layer.fused),
    }
    details = "\n".join([text, *(f"{what}: {its}" for what, its in known.items() if its)])
    return Box(text, details, style, top, bottom, share)


def _box(box: Box, x: int) -> str:
    y, height = box.top * LINE + LINE // 2, (box.bottom - box.top) * LINE
    bar = ""
    if box.share:
        bar = (
            f'<rect class="share" x="{x}" y="{y + 1}" width="{max(1, round(_BOX * box.share))}" '
            f'height="{height - 2}"/>'
        )
    return (
        f'<g class="{box.style}"><title>{_clean(box.details)}</title><rect x="{x}" y="{y + 1}" '
        f'width="{_BOX}" height="{height - 2}" rx="3"/>{bar}'
        f'<text x="{x + 6}" y="{y + height // 2 + 4}">{_clean(_short(box.text))}</text></g>'
    )


def _arcs(
    boxes: Sequence[Box], arcs: Iterable[tuple[int, int]], x: int, side: int
) -> Iterator[str]:
    """Arcs beside one column, whose edge is at `x`: `side` -1 to its left, 1 to its right.

    Where nothing lies in between but empty lines, a straight line through them is enough.
    """
    heights = set()
    for ends in arcs:
        top, bottom = sorted(ends, key=lambda at: boxes[at].top)
        begin, end = boxes[top].bottom, boxes[bottom].top
        if bottom == top + 1:
            if begin < end:
                yield (
                    f'<path class="arc" d="M{x - side * _INDENT} {begin * LINE + LINE // 2 - 1}'
                    f'V{end * LINE + LINE // 2 + 1}"/>'
                )
        else:
            heights.add((_middle(boxes[top]), _middle(boxes[bottom])))
    for (begin, end), lane in lanes(heights).items():
        out = side * (10 + _LANE_STEP * min(lane, _LANES - 1))
        yield f'<path class="arc" d="M{x} {begin}h{out}V{end}h{-out}"/>'


def _joints(placed: Placed) -> Iterator[str]:
    """From each node to the layer that it became part of."""
    x = _LEFT + _BOX
    for node, layer in placed.joined:
        begin, end = _middle(placed.left[node]), _middle(placed.right[layer])
        bend = _MIDDLE // 2
        yield (
            f'<path class="joint" d="M{x} {begin}C{x + bend} {begin} {x + bend} {end} '
            f'{_RIGHT} {end}"/>'
        )


def _middle(box: Box) -> int:
    return (box.top + box.bottom) * LINE // 2 + LINE // 2


def _short(text: str) -> str:
    return text if len(text) <= _LETTERS else text[: _LETTERS - 1] + "…"


def _clean(text: str) -> str:
    """Escaped, and without control characters, which TensorRT puts between names."""
    return escape("".join(letter if letter.isprintable() or letter == "\n" else " "
                          for letter in text))
