"""Explains an .onnx file: what ONNX Runtime, as it is installed here, makes of its graph."""

import shlex
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from trtserve.build.explain.explanation import (
    Explanation,
    LayerInfo,
    Level,
    Node,
    Note,
    Port,
    count,
    gone,
    number_text,
    shape_text,
    size_text,
    timed,
)
from trtserve.build.explain.onnx_graph import OnnxNodes, read_nodes
from trtserve.build.explain.onnx_session import (
    CUDA,
    HIGHEST,
    RUNS,
    Measured,
    Optimised,
    Sessions,
)
from trtserve.build.explain.onnx_sources import find_sources, find_twins, without_twins
from trtserve.build.graph import Graph, GraphTensor, read_graph
from trtserve.build.guess import usual_sizes, whole_shapes
from trtserve.errors import ConfigurationError
from trtserve.model.spec import Shape

_MOVES = frozenset({
    "ReorderInput", "ReorderOutput", "MemcpyFromHost", "MemcpyToHost", "Cast", "Transpose",
    "Reshape",
})
"""What ONNX Runtime adds to change a tensor's layout, datatype or place, and nothing else."""


def explain_onnx(path: Path, run: str = "", *, cuda: bool = True) -> Explanation:
    """Explain a file. `run`: shapes of all inputs, `x=1x3x224x224;y=1`, to run and measure it on.

    `cuda` False: on the CPU even where CUDA is there. Raises ModelLoadError, ConfigurationError.
    """
    graph = read_graph(path)
    shapes = parse_shapes(run, graph.inputs, _examples(graph)) if run else None
    before = read_nodes(path)
    with tempfile.TemporaryDirectory(prefix="trtserve-explain-") as folder:
        sessions = Sessions(path, Path(folder), cuda=cuda)
        found = {
            level: sessions.optimise(level, before.datatypes) for level in sessions.levels()
        }
        measured = sessions.measure(graph.inputs, shapes) if shapes is not None else None
    best = found[HIGHEST]
    twins = find_twins(before.nodes, before.attributes)
    layers = _layers(before, best, twins, measured)
    claimed = {name for layer in layers for name in layer.fused}
    return Explanation(
        name=path.name,
        file=str(path),
        kind="onnx",
        facts=dict(_facts(graph, sessions, before, best)),
        weights=before.weights,
        levels=tuple(_level(name, its) for name, its in found.items()),
        before=before.nodes,
        after=layers,
        gone=gone(before.nodes, claimed),
        totals=count(before.nodes, layers, before.constants),
        notes=tuple(_notes(graph, sessions, best, len(twins), measured, layers)),
    )


def parse_shapes(
    text: str, tensors: Sequence[GraphTensor], example: str
) -> dict[str, Shape]:
    """Read `x=1x3x224x224;y=1`, a shape for each input. Raises ConfigurationError.

    `example` is how it may look.
    """
    cure = f"Give a shape for each input: {example}"
    shapes: dict[str, Shape] = {}
    scalars = {tensor.name for tensor in tensors if not tensor.dims}
    for part in text.split(";"):
        name, _, sizes = part.rpartition("=")
        name, sizes = name.strip(), sizes.strip()
        words = sizes.split("x") if sizes or name not in scalars else []
        if not name or not all(word.isdecimal() for word in words):
            raise ConfigurationError(f"'{part}' is no shape", where="--run", cure=cure)
        shapes[name] = tuple(map(int, words))
    known = {tensor.name for tensor in tensors}
    if shapes.keys() != known:
        wrong = sorted(shapes.keys() - known)
        problem = (
            f"the model has no input '{wrong[0]}'" if wrong
            else f"there is no shape for {', '.join(sorted(known - shapes.keys()))}"
        )
        raise ConfigurationError(problem, where="--run", cure=cure)
    return shapes


def _examples(graph: Graph) -> str:
    """Likely shapes, in the words of --run."""
    shapes = whole_shapes(graph, usual_sizes(graph))
    return ";".join(f"{name}={shape_text(shape)}" for name, shape in shapes.items())


def _layers(
    before: OnnxNodes, best: Optimised, twins: Mapping[str, str], measured: Measured | None
) -> tuple[LayerInfo, ...]:
    after = best.nodes
    sources = find_sources(
        without_twins(before.nodes, twins), after.nodes, after.weight_names
    )
    placed = dict(best.placed)
    if measured is not None:
        placed.update(measured.placed)
    layers = tuple(
        LayerInfo(
            name=node.name,
            kind=node.kind,
            fused=fused,
            precision=node.precision,
            provider=_provider(node, fused, best.only_provider, placed),
            inputs=_ports(node.inputs, after),
            outputs=_ports(node.outputs, after),
            reformat=not fused and node.kind.rpartition(" ")[2] in _MOVES,
        )
        for node, fused in zip(after.nodes, sources, strict=True)
    )
    return timed(layers, measured.seconds) if measured is not None else layers


def _provider(
    node: Node, fused: Sequence[str], only: str, placed: Mapping[str, str]
) -> str:
    if only:
        return only
    # What is fused comes from one provider, so any of its nodes tells.
    return next((placed[name] for name in (node.name, *fused) if name in placed), "")


def _ports(names: Sequence[str], nodes: OnnxNodes) -> tuple[Port, ...]:
    return tuple(
        Port(name, nodes.datatypes.get(name, ""))
        for name in names if name and name not in nodes.weight_names
    )


def _level(name: str, found: Optimised) -> Level:
    kinds: dict[str, int] = {}
    for node in found.nodes.nodes:
        kinds[node.kind] = kinds.get(node.kind, 0) + 1
    ranked = dict(sorted(kinds.items(), key=lambda item: (-item[1], item[0])))
    return Level(name, len(found.nodes.nodes), ranked, found.seconds)


def _facts(
    graph: Graph, sessions: Sessions, before: OnnxNodes, best: Optimised
) -> Iterator[tuple[str, str]]:
    yield "runs with", f"ONNX Runtime {sessions.ort.__version__}"
    yield "providers", ", ".join(best.providers)
    yield "optimization level", f"{HIGHEST}, which is the default and the daemon's"
    yield "ONNX model", f"{graph.path.name}, SHA-256 {graph.sha256[:12]}"
    yield "size", size_text(graph.bytes)
    yield "opset", str(graph.opset)
    yield "takes", "; ".join(map(str, graph.inputs))
    yield "gives", "; ".join(map(str, graph.outputs))
    yield "precision", "carries Q/DQ" if graph.quantized else "as exported"
    yield "weights", _weights(before.weights)
    yield "weights as kept", _weights(best.nodes.weights)


def _weights(weights: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {size_text(size)}" for name, size in weights.items()) or "none"


def _notes(
    graph: Graph, sessions: Sessions, best: Optimised, twins: int, measured: Measured | None,
    layers: Sequence[LayerInfo],
) -> Iterator[Note]:
    yield Note(
        "this is what ONNX Runtime does on this machine: layouts depend on the processor, "
        "fusions on the provider and the version",
        "Ask again where it is served",
    )
    if twins:
        verb = "computes" if twins == 1 else "compute"
        yield Note(
            f"{number_text(twins, 'node')} {verb} what another one does; that is done once"
        )
    if sessions.wanted[0] == CUDA and best.providers[0] != CUDA:
        yield Note(
            f"{CUDA} is installed and does not start, so this is the CPU's graph",
            "Look at the GPU's driver, and install its libraries: pip install 'trtserve[cuda]'",
        )
    if measured is None:
        yield Note(
            "nobody measured how long the nodes take",
            "Give shapes to run it on: "
            f'trtserve explain {shlex.quote(str(graph.path))} --run "{_examples(graph)}"',
        )
        return
    yield Note(f"times are medians of {RUNS} runs, node by node, on made-up inputs")
    if CUDA in best.providers:
        yield Note(
            f"for nodes on {CUDA} they are what it takes to launch them, not to run them"
        )
    if any(layer.time_share is None for layer in layers):
        yield Note(
            "nodes without a name of their own can not be told apart in the record, and have no "
            "time here",
            "Export the model with names for its nodes",
        )
