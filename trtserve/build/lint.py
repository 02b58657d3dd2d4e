"""What is wrong, or will disappoint, in a graph that shall become a TensorRT plan.

Each finding has its cause and its cure. An `error` stops a build, a `warning` makes a plan that
does less than people expect, a `hint` is worth knowing.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, Literal

from trtserve.build.batch_axis import baked_reshapes
from trtserve.build.graph import Graph, GraphTensor
from trtserve.build.guess import PLACEHOLDERS, open_dims, usual_sizes, whole_shapes
from trtserve.build.messages import message_log, readable
from trtserve.build.operators import BORDER_DATATYPES, OPSETS, UNSUPPORTED
from trtserve.build.shapes import Profile
from trtserve.model.spec import ShapeRange

Severity = Literal["error", "warning", "hint"]

MAX_SIZES = 16
"""Times as many elements in the largest shape of a profile as in its smallest, the batch apart."""

MAX_BATCHES = 256
"""Times as many rows."""

EXPORT_OPEN = "Export the model with an open batch (dynamic_axes or dynamic_shapes in PyTorch)"

_SHOWN = 3
"""Names in one finding; more are counted."""


@dataclass(frozen=True, slots=True)
class LintFinding:
    """One thing to know. `subject` is what a fix changes: a tensor's name, or a symbol."""

    code: str
    severity: Severity
    problem: str
    cure: str = ""
    where: str = ""
    fixable: bool = False
    subject: str = ""

    def __str__(self) -> str:
        place = f"{self.where}: " if self.where else ""
        cure = f". {self.cure}" if self.cure else ""
        return f"{place}{self.problem}{cure} [{self.code}]"


def lint(graph: Graph, profiles: Sequence[Profile] = ()) -> list[LintFinding]:
    """All findings, the errors first. Pure but for shape inference: nothing is run."""
    found = [
        *_datatypes(graph),
        *_operators(graph),
        *_opset(graph),
        *_fixed_batch(graph),
        *_baked(graph),
        *_shared_symbols(graph, profiles),
        *_batch_in_profiles(graph, profiles),
        *_wide_ranges(profiles),
    ]
    order = ("error", "warning", "hint")
    return sorted(found, key=lambda finding: order.index(finding.severity))


def parser_findings(module: Any, graph: Graph) -> list[LintFinding]:
    """What the parser of an installed TensorRT (or TensorRT-RTX) says about the graph.

    It can do this only where the module's builder can be made: `tensorrt` needs a GPU for that.
    """
    log = message_log(module)
    builder = module.Builder(log)
    flag = getattr(module.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    network = builder.create_network(0 if flag is None else 1 << int(flag))
    parser = module.OnnxParser(network, log)
    if graph.in_file:
        parsed = parser.parse_from_file(str(graph.path))
    else:
        parsed = parser.parse(graph.model.SerializeToString())
    title = f"{module.__name__} {module.__version__}"
    found = [_from_parser(title, parser.get_error(at)) for at in range(parser.num_errors)]
    if not parsed and not found:
        found.append(LintFinding(
            "parser", "error", f"{title} does not take it: {readable(log.errors)}"
        ))
    return found


def fixed_batch(graph: Graph) -> int | None:
    """The batch that the inputs are fixed to; None: open, or there is none.

    The smallest, if they differ.
    """
    fixed = [t.dims[0] for t in batched_inputs(graph) if isinstance(t.dims[0], int)]
    return min(fixed, default=None)


def batched_inputs(graph: Graph) -> list[GraphTensor]:
    """The inputs whose dimension 0 can be a batch. A lone number beside larger inputs, such as a
    scale, is one for the whole request."""
    ranked = [tensor for tensor in graph.inputs if tensor.dims]
    return [tensor for tensor in ranked if tensor.dims != (1,)] or ranked


def _from_parser(title: str, error: Any) -> LintFinding:
    code = error.code().name
    operator = error.node_operator()
    cures = {
        "UNSUPPORTED_NODE": UNSUPPORTED.get(operator, "Export the model without it, or serve "
                                                      "the ONNX file itself"),
        "INVALID_NODE": "Export the model with ONNX's own operators; for a plugin, load its "
                        "library first",
        "MODEL_DESERIALIZE_FAILED": "Export the model again",
    }
    # Its text is often only the condition that failed, such as "false".
    reason = error.desc() if len(error.desc()) > len("false") else "not supported"
    what = f"{operator}: " if operator else ""
    return LintFinding(
        "parser", "error", f"{title} refuses {what}{reason} ({code})",
        cures.get(code, "Export the model with other operators or shapes there"),
        where=error.node_name() or (f"node {error.node()}" if error.node() >= 0 else ""),
    )


def _datatypes(graph: Graph) -> Iterator[LintFinding]:
    for kind, tensors in (("input", graph.inputs), ("output", graph.outputs)):
        for tensor in tensors:
            if tensor.datatype not in BORDER_DATATYPES:
                yield LintFinding(
                    "datatype", "error",
                    f"{kind} {tensor} has a type that TensorRT has no tensors of",
                    "Export it with FP32, FP16, INT32, INT64, UINT8 or BOOL there",
                    where=tensor.name,
                )
            elif tensor.datatype == "FP64":
                yield LintFinding(
                    "fp64", "warning",
                    f"{kind} {tensor} is FP64, which TensorRT does not compute with: the plan's "
                    "will be FP32",
                    "Make it FP32 in the graph too, so that both say the same (--fix does)",
                    where=tensor.name, fixable=True, subject=tensor.name,
                )
            elif kind == "input" and tensor.datatype == "INT64":
                yield LintFinding(
                    "int64", "hint",
                    f"input {tensor} is INT64: twice the bytes to send and to copy, and older "
                    "TensorRT (before 9) takes INT32 instead",
                    "Where numbers below 2147483648 are enough, make it INT32 in the graph "
                    "(--fix does); clients then send INT32",
                    where=tensor.name, fixable=True, subject=tensor.name,
                )
        for tensor in tensors if kind == "input" else ():
            if not tensor.ranked and tensor.datatype in BORDER_DATATYPES:
                yield LintFinding(
                    "no-shape", "error",
                    f"input {tensor} does not say how many dimensions it has",
                    "Export the model with the shapes of its inputs", where=tensor.name,
                )


def _operators(graph: Graph) -> Iterator[LintFinding]:
    for name, count in sorted(graph.ops.items()):
        times = f"{name} (used {count} times)" if count > 1 else name
        if name in UNSUPPORTED:
            yield LintFinding(
                "operator", "error", f"TensorRT does not take the operator {times}",
                UNSUPPORTED[name], where=name,
            )
        elif "::" in name:
            yield LintFinding(
                "custom-operator", "warning",
                f"the operator {times} is not ONNX's own: TensorRT takes it only if a plugin of "
                "that name is loaded",
                "Export the model before an optimizer rewrites it, or load the plugin",
                where=name,
            )


def _opset(graph: Graph) -> Iterator[LintFinding]:
    oldest, newest = OPSETS
    if not oldest <= graph.opset <= newest:
        yield LintFinding(
            "opset", "warning",
            f"opset {graph.opset}; TensorRT promises to take {oldest} to {newest}",
            f"Export with opset {min(max(graph.opset, oldest), newest)}, or convert the file "
            "with onnx.version_converter",
        )


def _fixed_batch(graph: Graph) -> Iterator[LintFinding]:
    fixed = [t for t in batched_inputs(graph) if isinstance(t.dims[0], int)]
    if not fixed:
        fixed = [t for t in graph.outputs if t.dims and isinstance(t.dims[0], int)]
        if fixed and any(t.dims for t in graph.inputs):
            yield LintFinding(
                "output-batch", "warning",
                f"the inputs' batch is open, and {_names(fixed)} always has "
                f"{fixed[0].dims[0]} row{'' if fixed[0].dims[0] == 1 else 's'}: nobody can tell "
                "which row belongs to which request",
                "Declare the output's batch as open, if it is (--fix does, after a proof)",
                where=fixed[0].name, fixable=True, subject=fixed[0].name,
            )
        return
    size = fixed_batch(graph)
    one = "one image" if size == 1 else f"exactly {size} rows"
    yield LintFinding(
        "fixed-batch", "warning",
        f"the batch of {_names(fixed)} is fixed to {size}, so the engine takes {one} at a time, "
        "whatever the GPU could do. The batch is dimension 0 of the inputs: implicit batch and "
        "max_batch_size, which once made it larger, are gone",
        f"{EXPORT_OPEN}, or let --fix open it in the graph; then build with --batch 1,8,32",
        where=fixed[0].name, fixable=True, subject=fixed[0].name,
    )


def _baked(graph: Graph) -> Iterator[LintFinding]:
    """Reshapes that keep an open batch from being used."""
    if fixed_batch(graph) is not None:
        return
    other = any(map(open_dims, graph.inputs))
    shapes = whole_shapes(graph, usual_sizes(graph))
    found = baked_reshapes(graph.model, shapes, other_sizes_open=other)
    if found:
        names = [one.node or one.output for one in found]
        yield LintFinding(
            "baked-reshape", "warning",
            f"the inputs' batch is open, but {len(found)} Reshape (to {list(found[0].old)} in "
            f"{_listed(names)}) have a batch of 1 in them: other batches may fail or mix up rows",
            f"{EXPORT_OPEN}, or let --fix change them",
            where=names[0], fixable=True,
        )


def _shared_symbols(graph: Graph, profiles: Sequence[Profile]) -> Iterator[LintFinding]:
    for symbol, places in symbol_places(graph).items():
        clash = next((p for p in profiles if len(_ranges(p, places)) > 1), None)
        # The batch of several inputs is one size, whatever it is called.
        only_batch = all(at == 0 for _, at in places)
        twice = len({name for name, _ in places}) < len(places)
        suspect = len(places) > 1 and (twice or symbol.lower() in PLACEHOLDERS)
        if not clash and (only_batch or not suspect):
            continue
        shown = " and ".join(f"{name}[{at}]" for name, at in places)
        problem = (
            f"they share the symbol '{symbol}', which TensorRT takes as a promise that they are "
            "always equal"
        )
        if clash:
            problem += f"; profile {clash.name or clash.text} has them differ: the build fails"
        else:
            problem += ": requests where they differ are refused"
        yield LintFinding(
            "shared-symbol", "error" if clash else "warning", problem,
            "Give each dimension its own name in the export, or let --fix do it",
            where=shown, fixable=not only_batch, subject=symbol,
        )


def symbol_places(graph: Graph) -> dict[str, list[tuple[str, int]]]:
    """Where each symbol stands among the inputs: (input, dimension)."""
    places: dict[str, list[tuple[str, int]]] = {}
    for tensor in graph.inputs:
        for at, dim in enumerate(tensor.dims):
            if isinstance(dim, str):
                places.setdefault(dim, []).append((tensor.name, at))
    return places


def _ranges(profile: Profile, places: Sequence[tuple[str, int]]) -> set[tuple[int, ...]]:
    """The different ranges that a profile has at these places."""
    found: set[tuple[int, ...]] = set()
    for name, at in places:
        one = profile.shapes[name]
        found.add((one.min[at], (one.opt or one.max)[at], one.max[at]))
    return found


def _batch_in_profiles(graph: Graph, profiles: Sequence[Profile]) -> Iterator[LintFinding]:
    batched = [t.name for t in graph.inputs if t.dims and not isinstance(t.dims[0], int)]
    if not batched or not profiles:
        return
    if any(p.shapes[name].min[0] < p.shapes[name].max[0] for p in profiles for name in batched):
        return
    rows = max(p.shapes[name].max[0] for p in profiles for name in batched)
    one = "one image" if rows == 1 else f"exactly as many rows as it says, {rows} at most,"
    yield LintFinding(
        "no-dynamic-batch", "warning",
        f"the model's batch is open and no profile uses that: each takes {one} at a time, and "
        "requests can not share a run",
        "Give a range in dimension 0, such as min 1, opt 8, max 32 (--batch 1,8,32)",
        where=batched[0],
    )


def _wide_ranges(profiles: Sequence[Profile]) -> Iterator[LintFinding]:
    for profile in profiles:
        ratios: Mapping[str, tuple[float, float]] = {
            name: _spread(one) for name, one in profile.shapes.items()
        }
        for name, (rows, sizes) in ratios.items():
            if sizes <= MAX_SIZES and rows <= MAX_BATCHES:
                continue
            what = f"{sizes:.0f} times as large" if sizes > MAX_SIZES else f"{rows:.0f} rows for 1"
            yield LintFinding(
                "wide-range", "warning",
                f"profile {profile.name or profile.text}: the largest {name} is {what}. Only "
                "kernels that are valid over the whole range are chosen, they are tuned for the "
                "opt shape, and memory is taken for the largest",
                "Build several narrower profiles: --profile again for each, or --sizes",
                where=name,
            )


def _spread(one: ShapeRange) -> tuple[float, float]:
    """How many times the largest is the smallest: (rows, everything else)."""
    if not one.min:
        return 1, 1
    return one.max[0] / one.min[0], prod(one.max[1:]) / prod(one.min[1:])


def _names(tensors: Sequence[GraphTensor]) -> str:
    return _listed([tensor.name for tensor in tensors])


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(f"'{name}'" for name in names[:_SHOWN])
    return shown if len(names) <= _SHOWN else f"{shown} and {len(names) - _SHOWN} more"
