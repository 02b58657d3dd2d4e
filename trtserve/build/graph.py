"""An ONNX file, read: what it takes and gives, its operators, and a hash of all its bytes."""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from trtserve.errors import ConfigurationError, ModelLoadError

PROTOBUF_LIMIT = 2**31 - 1
"""Bytes that one protobuf message may have. Larger models keep their weights in other files."""

_DATATYPES = {
    "FLOAT": "FP32",
    "FLOAT16": "FP16",
    "BFLOAT16": "BF16",
    "DOUBLE": "FP64",
    "STRING": "BYTES",
}
"""ONNX's names where the protocol has others."""

_FREE_WEIGHTS = 4
"""The version of ONNX's format from which weights need not be inputs."""

Dims = tuple[int | str | None, ...]
"""Sizes, symbols, and None where the file says neither."""


@dataclass(frozen=True, slots=True)
class GraphTensor:
    """An input or output. `datatype` is the protocol's name, or ONNX's where it has none.

    `ranked` is False where the file does not even say how many dimensions there are.
    """

    name: str
    datatype: str
    dims: Dims
    ranked: bool = True

    def __str__(self) -> str:
        dims = ", ".join("?" if dim is None else str(dim) for dim in self.dims)
        return f"{self.name} {self.datatype}[{dims if self.ranked else '...'}]"


@dataclass(frozen=True)
class Graph:
    """One ONNX model. `inputs` are those that a request gives: weights are not among them.

    `ops` counts operators, those of inner graphs too, as `Conv` or `domain::Name`. `bytes` and
    `sha256` are over the file and all `external` files with its weights.
    """

    path: Path
    inputs: tuple[GraphTensor, ...]
    outputs: tuple[GraphTensor, ...]
    opset: int
    ops: Counter[str]
    bytes: int
    sha256: str
    quantized: bool
    external: tuple[Path, ...] = ()
    in_file: bool = True
    """Whether `path` has what `model` has; False for one that was made from it in memory."""
    load: Callable[[], Any] = field(kw_only=True, repr=False, compare=False)

    @cached_property
    def model(self) -> Any:
        """The onnx.ModelProto with all weights. Those of other files are read the first time.

        To be copied before it is changed.
        """
        try:
            return self.load()
        except Exception as error:  # onnx, protobuf and the system raise what they like
            raise _unreadable(self.path, error) from error

    def input(self, name: str) -> GraphTensor:
        """The input of that name. Raises KeyError."""
        return next((t for t in self.inputs if t.name == name), None) or _missing(name)


def read_graph(path: Path) -> Graph:
    """Read an ONNX file. Raises ModelLoadError that names the file, the cause and the cure."""
    onnx = import_onnx()
    try:
        size = path.stat().st_size
        data = path.read_bytes() if size <= PROTOBUF_LIMIT else b""
    except OSError as error:
        raise _unreadable(path, error) from error
    if size > PROTOBUF_LIMIT:
        raise ModelLoadError(
            f"{size} bytes in one file, which is more than ONNX files can have (2 GiB)",
            where=str(path),
            cure="Save the model with its weights in external data files",
        )
    try:
        model = onnx.ModelProto.FromString(data)
    except Exception as error:  # protobuf's own, which differs between its implementations
        raise _not_onnx(path, size) from error
    if not model.graph.output:
        raise _not_onnx(path, size)
    external = _external_files(path, model)
    return _describe(
        model, path,
        size=size + sum(file.stat().st_size for file in external),
        sha256=_hash(path, external),
        external=external,
        load=(lambda: onnx.load(str(path))) if external else (lambda: model),
    )


def graph_of(model: Any, path: Path) -> Graph:
    """The graph of a model in memory that was made from the file at `path`.

    Its hash is over the model's own bytes, in one fixed order.
    """
    try:
        data = model.SerializeToString(deterministic=True)
    except Exception as error:  # protobuf's own, for more than 2 GiB
        raise ModelLoadError(
            "larger than 2 GiB, which can not be changed in memory", where=str(path),
            cure="Change the model where it is exported",
        ) from error
    return _describe(
        model, path,
        size=len(data), sha256=hashlib.sha256(data).hexdigest(), in_file=False,
        load=lambda: model,
    )


def import_onnx() -> Any:
    """The package onnx. Raises ConfigurationError if it is not installed."""
    try:
        import onnx
    except ImportError as error:
        raise ConfigurationError(
            "the Python package onnx is not installed",
            cure="Install it: pip install onnx",
        ) from error
    return onnx


def copied(model: Any) -> Any:
    """A copy that may be changed."""
    copy = type(model)()
    copy.CopyFrom(model)
    # Before version 4 every weight had to be an input too: new ones are not.
    copy.ir_version = max(copy.ir_version, _FREE_WEIGHTS)
    return copy


def border(model: Any) -> tuple[tuple[GraphTensor, ...], tuple[GraphTensor, ...]]:
    """A model's inputs, without the weights that old files have among them, and its outputs."""
    weights = {tensor.name for tensor in model.graph.initializer}
    return (
        tuple(_tensor(value) for value in model.graph.input if value.name not in weights),
        tuple(_tensor(value) for value in model.graph.output),
    )


def attribute_graphs(node: Any) -> Iterator[Any]:
    """The inner graphs of a node: branches and loop bodies."""
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def all_nodes(nodes: Sequence[Any]) -> Iterator[Any]:
    """These nodes and all nodes of their inner graphs."""
    for node in nodes:
        yield node
        for graph in attribute_graphs(node):
            yield from all_nodes(graph.node)


def all_tensors(graph: Any) -> Iterator[Any]:
    """All weights and constants, those of inner graphs too."""
    yield from graph.initializer
    for node in all_nodes(graph.node):
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
        for inner in attribute_graphs(node):
            yield from inner.initializer


def _describe(model: Any, path: Path, *, size: int, **rest: Any) -> Graph:
    inputs, outputs = border(model)
    ops = _operators(model)
    opsets = [o.version for o in model.opset_import if o.domain in ("", "ai.onnx")]
    return Graph(
        path, inputs, outputs,
        opset=max(opsets, default=1),
        ops=ops,
        bytes=size,
        quantized=bool(ops["QuantizeLinear"] or ops["DequantizeLinear"]),
        **rest,
    )


def _operators(model: Any) -> Counter[str]:
    """How often each operator occurs. A model's own functions count as what they are made of."""
    functions = {(function.domain, function.name) for function in model.functions}
    bodies = [model.graph.node, *(function.node for function in model.functions)]
    return Counter(
        node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}::{node.op_type}"
        for body in bodies
        for node in all_nodes(body)
        if (node.domain, node.op_type) not in functions
    )


def _tensor(value: Any) -> GraphTensor:
    onnx = import_onnx()
    kind = value.type.WhichOneof("value")
    if kind != "tensor_type":
        return GraphTensor(value.name, str(kind).removesuffix("_type").upper(), (), ranked=False)
    tensor = value.type.tensor_type
    name = onnx.TensorProto.DataType.Name(tensor.elem_type)
    return GraphTensor(
        value.name,
        _DATATYPES.get(name, name),
        tuple(map(_dim, tensor.shape.dim)),
        ranked=tensor.HasField("shape"),
    )


def _dim(dim: Any) -> int | str | None:
    # Some exporters write -1 for a size that is not known.
    if dim.HasField("dim_value"):
        return int(dim.dim_value) if dim.dim_value >= 0 else None
    return dim.dim_param or None


def _external_files(path: Path, model: Any) -> tuple[Path, ...]:
    """The files beside it with its weights, each large enough. Raises ModelLoadError."""
    needed: dict[str, int] = {}
    for tensor in all_tensors(model.graph):
        if tensor.data_location:
            place = {entry.key: entry.value for entry in tensor.external_data}
            end = int(place.get("offset") or 0) + int(place.get("length") or 0)
            location = place.get("location", "")
            needed[location] = max(needed.get(location, 0), end)
    files = []
    for location, end in sorted(needed.items()):
        if not location or Path(location).is_absolute() or ".." in Path(location).parts:
            raise ModelLoadError(
                f"its weights are said to be in '{location}', which is outside of its folder",
                where=str(path),
                cure="Save the model again with external data beside it",
            )
        file = path.parent / location
        if not file.is_file():
            raise ModelLoadError(
                f"external data missing: its weights are in '{location}', which is not there",
                where=str(path),
                cure="Copy the model's external data files beside it, under their own names",
            )
        if file.stat().st_size < end:
            raise ModelLoadError(
                f"external data cut off: '{location}' has {file.stat().st_size} bytes and the "
                f"model's weights end at {end}",
                where=str(path),
                cure="Copy the file again",
            )
        files.append(file)
    return tuple(files)


def _hash(path: Path, external: Sequence[Path]) -> str:
    """Without external data it is what sha256sum says."""
    digest = hashlib.sha256()
    for file in (path, *external):
        if file != path:
            # So that bytes can not move from one file to the next without being seen.
            digest.update(f"\0{file.relative_to(path.parent)}\0{file.stat().st_size}\0".encode())
        with file.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def _missing(name: str) -> GraphTensor:
    raise KeyError(name)


def _not_onnx(path: Path, size: int) -> ModelLoadError:
    return ModelLoadError(
        "the file is empty" if size == 0 else "not an ONNX model, or only a part of one",
        where=str(path),
        cure="Copy the file again and compare its size and checksum with the original",
    )


def _unreadable(path: Path, error: Exception) -> ModelLoadError:
    if isinstance(error, FileNotFoundError):
        return ModelLoadError(
            "no such file", where=str(path), cure="Give the path of an .onnx file"
        )
    if isinstance(error, IsADirectoryError):
        return ModelLoadError(
            "a folder, not a file", where=str(path), cure="Give the path of an .onnx file"
        )
    cause = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return ModelLoadError(
        f"can not be read: {cause}", where=str(path),
        cure="Look at the file's permissions and at the disk",
    )
