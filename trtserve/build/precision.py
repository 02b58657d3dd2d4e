"""Precision, which TensorRT takes from the graph: FP16 is made here, the rest elsewhere.

A converted model is compared with the model as it was, output by output, on the CPU.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from trtserve.build.cpu_run import SEED, Arrays, Inputs, Session, readable, weight_bytes
from trtserve.build.fold import beyond_fp16, fold_batch_norms
from trtserve.build.graph import (
    PROTOBUF_LIMIT,
    Graph,
    GraphTensor,
    all_nodes,
    all_tensors,
    border,
    copied,
)
from trtserve.build.rounding import rounded_to_fp16
from trtserve.build.shapes import Profile
from trtserve.errors import ConfigurationError, ModelLoadError
from trtserve.model.tensor import DATATYPES

PRECISIONS = ("fp32", "fp16", "bf16", "int8", "fp8")

_ROWS = 4
"""Rows of a run: enough for outputs to differ, few enough for a CPU."""

_FLOAT, _INT8, _BF16, _FP8 = "FLOAT", "INT8", "BFLOAT16", "FLOAT8E4M3FN"

_OFFLINE = """\
{title} is made outside of trtserve, once, with NVIDIA's Model Optimizer. It needs PyTorch and its
own versions of onnx and ONNX Runtime, so give it an environment of its own:
    python -m venv modelopt
    modelopt/bin/pip install 'nvidia-modelopt[onnx]'
{steps}
Then build from that file, with the same --precision: {accepted}"""

_AUTOCAST = """\
    modelopt/bin/python -m modelopt.onnx.autocast --onnx_path model.onnx \\
        --low_precision_type bf16 --keep_io_types --output_path model.bf16.onnx
It leaves in FP32 what BF16 would hurt. With --calibration_data samples.npz it judges that by real
inputs."""

_QUANTIZE = """\
Collect some hundred real inputs in a file samples.npz, one array for each input of the model, and:
    modelopt/bin/python -m modelopt.onnx.quantization --onnx_path model.onnx \\
        --quantize_mode {mode} --high_precision_dtype fp16 \\
        --calibration_data_path samples.npz --output_path model.{mode}.onnx
Made-up inputs give useless ranges. Compare the accuracy of both models on your own test set."""


@dataclass(frozen=True, slots=True)
class OutputError:
    """How far an output is from the original's, over all samples.

    `argmax_agreement` is the share of rows whose largest number is at the same place; None where
    rows have only one. `samples` says what the models were run with.
    """

    output: str
    max_abs: float
    relative_l2: float
    argmax_agreement: float | None
    samples: str


def check_precision(graph: Graph, precision: str) -> bool:
    """Whether the graph has to be converted (`to_fp16`) for it.

    Raises ConfigurationError, with the recipe, where the graph does not carry the precision and
    it is not made here.
    """
    if precision not in PRECISIONS:
        raise ConfigurationError(
            f"'{precision}' is not a precision", where="precision",
            cure=f"Use {', '.join(PRECISIONS)}",
        )
    if precision == "fp32":
        return False
    has = _datatypes(graph)
    if precision == "fp16":
        if graph.quantized:
            raise ConfigurationError(
                "the model is quantized; its numbers between quantized operators are made FP16 "
                "when it is quantized, not afterwards",
                where=str(graph.path),
                cure="Build it as it is, without --precision, or quantize the FP16 model",
            )
        return bool(has[_FLOAT])
    if precision == "bf16":
        if not has[_BF16]:
            raise _not_carried(graph, precision, "it has no tensor in BF16")
        return False
    _check_quantized(graph, precision)
    return False


def recipe(precision: str) -> str:
    """How to get a graph of that precision; for fp32 and fp16 nothing has to be done."""
    if precision == "bf16":
        return _OFFLINE.format(
            title="BF16", steps=_AUTOCAST, accepted="a graph with BF16 tensors is taken as it is."
        )
    if precision in ("int8", "fp8"):
        return _OFFLINE.format(
            title=precision.upper(), steps=_QUANTIZE.format(mode=precision),
            accepted="a graph with QuantizeLinear and DequantizeLinear is taken as it is.",
        )
    if precision == "fp16":
        return "trtserve converts the graph itself: build with --precision fp16."
    return "The graph is built as it is."


def to_fp16(model: Any, *, keep_io: bool) -> Any:
    """A copy of a model in FP16, except for what needs FP32.

    `keep_io`: inputs and outputs stay FP32, so that clients notice nothing but the results.
    Raises ConfigurationError.
    """
    if weight_bytes(model) > PROTOBUF_LIMIT // 2:
        raise ConfigurationError(
            "the model is too large to be converted here", where="precision",
            cure="Export it in FP16, or convert it with modelopt.onnx.autocast "
                 "--low_precision_type fp16",
        )
    try:
        from onnxruntime.transformers.float16 import convert_float_to_float16
        from onnxruntime.transformers.onnx_model import OnnxModel
    except ImportError as error:
        raise ConfigurationError(
            f"the converter, which comes with ONNX Runtime, does not load: {error}",
            where="precision", cure="Install it: pip install 'trtserve[cpu]'",
        ) from error
    copy = copied(model)
    fold_batch_norms(copy)
    try:
        converted = convert_float_to_float16(
            copy, keep_io_types=keep_io, node_block_list=beyond_fp16(copy)
        )
    except Exception as error:  # the converter raises what it likes
        raise ConfigurationError(
            f"it can not be converted to FP16: {readable(error)}", where="precision",
            cure="Export it in FP16, or convert it with modelopt.onnx.autocast",
        ) from error
    # It puts new nodes at the end, wherever their results are needed.
    OnnxModel(converted).topological_sort()
    return converted


def compare(
    original: Any, converted: Any, samples: Path | None, profiles: Sequence[Profile]
) -> list[OutputError]:
    """Run both models on the same inputs: those of an .npz file, or generated ones.

    The file has one array for each input, its rows the samples. Generated ones have the shapes
    that the profiles are tuned for. Results in FP16 are rounded as on a GPU. Raises
    ConfigurationError and ModelLoadError.
    """
    tensors, _ = border(original)
    with Session(original) as before, Session(rounded_to_fp16(converted)) as after:
        if samples is None:
            runs = list(_generated(tensors, profiles))
            rows = " and ".join(_shown(inputs) for inputs in runs)
            what = f"generated, normal, seed {SEED}: {rows}"
        else:
            runs = list(_chunks(tensors, _read_samples(samples, tensors)))
            what = f"{samples.name}: {', '.join(_shown(inputs) for inputs in runs[:1])}, " \
                   f"{len(runs)} run{'' if len(runs) == 1 else 's'}"
        types = {tensor.name: tensor.datatype for tensor in border(converted)[0]}
        sums = {name: _Difference() for name in before.outputs}
        for inputs in runs:
            wanted = before.run(inputs)
            found = after.run({
                name: one.astype(DATATYPES[types[name]].numpy) for name, one in inputs.items()
            })
            for name, difference in sums.items():
                difference.add(wanted[name], found[name], name)
    return [one.result(name, what) for name, one in sums.items()]


@dataclass(slots=True)
class _Difference:
    """Between two models' values of one output, run by run."""

    max_abs: float = 0.0
    squares: float = 0.0
    wanted_squares: float = 0.0
    rows: int = 0
    agreed: int = 0
    shapes: set[tuple[int, ...]] = field(default_factory=set)

    def add(self, wanted: np.ndarray[Any, Any], found: np.ndarray[Any, Any], name: str) -> None:
        if wanted.shape != found.shape:
            raise ModelLoadError(
                f"output '{name}' has another shape after the conversion: {list(found.shape)} "
                f"and not {list(wanted.shape)}"
            )
        one, other = wanted.astype(np.float64), found.astype(np.float64)
        # What overflows becomes infinite or no number at all: infinitely far away. What was so
        # before is no fault of the conversion.
        lost = np.isfinite(one) & ~np.isfinite(other)
        both = np.isfinite(one) & np.isfinite(other)
        distance = np.abs(one[both] - other[both])
        self.max_abs = max(self.max_abs, float(distance.max(initial=0)))
        self.squares += float((distance**2).sum())
        self.wanted_squares += float((one[both] ** 2).sum())
        if lost.any():
            self.max_abs = self.squares = float("inf")
        if one.ndim > 1 and one.shape[-1] > 1 and one.size:
            same = one.argmax(-1) == other.argmax(-1)
            self.rows += same.size
            self.agreed += int(same.sum())

    def result(self, name: str, samples: str) -> OutputError:
        relative = 0.0 if self.squares == 0 else (
            float((self.squares / self.wanted_squares) ** 0.5)
            if self.wanted_squares
            else float("inf")
        )
        agreement = self.agreed / self.rows if self.rows else None
        return OutputError(name, self.max_abs, relative, agreement, samples)


def _generated(tensors: Sequence[GraphTensor], profiles: Sequence[Profile]) -> Iterator[Arrays]:
    """A few rows for each profile."""
    if not profiles:
        raise ConfigurationError(
            "there are no samples, and no profile to make some for", where="samples",
            cure="Give shapes with --profile or --sizes, or samples with --samples",
        )
    for profile in profiles:
        shapes = {
            tensor.name: tuple(
                min(size, _ROWS) if at == 0 and not isinstance(tensor.dims[0], int) else size
                for at, size in enumerate(profile.opts()[tensor.name])
            )
            for tensor in tensors
        }
        yield Inputs().make(tensors, shapes)


def _read_samples(path: Path, tensors: Sequence[GraphTensor]) -> Arrays:
    where = f"samples {path}"
    cure = f"Give an .npz file with an array for each input: {', '.join(map(str, tensors))}"
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except Exception as error:  # NumPy and zipfile raise what they like
        raise ConfigurationError(f"can not be read: {error}", where=where, cure=cure) from error
    for tensor in tensors:
        if tensor.name not in arrays:
            raise ConfigurationError(f"'{tensor.name}' is missing", where=where, cure=cure)
        one = arrays[tensor.name]
        wanted = DATATYPES[tensor.datatype].numpy if tensor.datatype in DATATYPES else None
        fits = len(one.shape) == len(tensor.dims) and all(
            not isinstance(dim, int) or dim == size or at == 0
            for at, (dim, size) in enumerate(zip(tensor.dims, one.shape, strict=True))
        )
        if wanted is None or not fits or not np.can_cast(one.dtype, wanted, "same_kind"):
            raise ConfigurationError(
                f"'{tensor.name}' is {one.dtype}{list(one.shape)}, which is not {tensor}",
                where=where, cure=cure,
            )
        arrays[tensor.name] = one.astype(wanted)
    return {tensor.name: arrays[tensor.name] for tensor in tensors}


def _chunks(tensors: Sequence[GraphTensor], arrays: Arrays) -> Iterator[Arrays]:
    """Samples in runs of as many rows as the model takes."""
    fixed = {tensor.dims[0] for tensor in tensors if tensor.dims}
    sizes = {len(one) for one in arrays.values() if one.shape}
    rows = min((dim for dim in fixed if isinstance(dim, int)), default=_ROWS)
    if len(sizes) > 1 or (sizes and sizes <= {0}):
        raise ConfigurationError(
            f"the arrays have {' and '.join(map(str, sorted(sizes)))} rows", where="samples",
            cure="Give the same number of samples for each input",
        )
    count = max(sizes, default=rows)
    if count % rows and any(isinstance(dim, int) for dim in fixed):
        raise ConfigurationError(
            f"{count} samples, and the model takes exactly {rows} at a time", where="samples",
            cure=f"Give a multiple of {rows}",
        )
    for start in range(0, count, rows):
        yield {
            name: one[start : start + rows] if one.shape else one for name, one in arrays.items()
        }


def _check_quantized(graph: Graph, precision: str) -> None:
    wanted = _INT8 if precision == "int8" else _FP8
    if not graph.quantized:
        raise _not_carried(graph, precision, "it has no QuantizeLinear or DequantizeLinear")
    found = _quantized_types(graph.model)
    if not found[wanted]:
        types = ", ".join(sorted(found)) or "an unknown type"
        raise _not_carried(graph, precision, f"it is quantized to {types} and not to {wanted}")
    if found["UINT8"]:
        raise _not_carried(
            graph, precision, "some of it is quantized to UINT8; TensorRT takes signed numbers "
                              "with a zero point of 0"
        )


def _quantized_types(model: Any) -> Counter[str]:
    """To which types the graph quantizes, by its zero points."""
    from onnx import TensorProto

    types = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    for node in all_nodes(model.graph.node):
        if node.op_type == "Constant":
            for attribute in node.attribute:
                if attribute.HasField("t"):
                    types[node.output[0]] = attribute.t.data_type
    found: Counter[str] = Counter()
    for node in all_nodes(model.graph.node):
        if node.op_type not in ("QuantizeLinear", "DequantizeLinear"):
            continue
        declared = next((a.i for a in node.attribute if a.name == "output_dtype"), 0)
        zero = types.get(node.input[2]) if len(node.input) > 2 else None
        # Weights may be stored as they are, with a DequantizeLinear alone.
        stored = types.get(node.input[0]) if node.op_type == "DequantizeLinear" else None
        kind = zero or stored or (node.op_type == "QuantizeLinear" and (declared or 2))
        if kind:
            found[TensorProto.DataType.Name(kind)] += 1
    return found


def _datatypes(graph: Graph) -> Counter[str]:
    """The types of weights, constants, inputs and results of Cast, by ONNX's names."""
    from onnx import TensorProto

    model = graph.model
    kinds = [tensor.data_type for tensor in all_tensors(model.graph)]
    kinds += [value.type.tensor_type.elem_type for value in model.graph.input]
    for node in all_nodes(model.graph.node):
        if node.op_type == "Cast":
            kinds += [attribute.i for attribute in node.attribute if attribute.name == "to"]
    return Counter(TensorProto.DataType.Name(kind) for kind in kinds)


def _not_carried(graph: Graph, precision: str, why: str) -> ConfigurationError:
    return ConfigurationError(
        f"precision comes from the graph, and this one is not in {precision.upper()}: {why}",
        where=str(graph.path), cure=recipe(precision),
    )


def _shown(inputs: Arrays) -> str:
    return ", ".join(f"{name}{list(one.shape)}" for name, one in inputs.items())
