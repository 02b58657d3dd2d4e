"""Runs models with ONNX Runtime on the CPU: to prove a rewrite, to compare, to try sizes."""

import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from trtserve.build.graph import PROTOBUF_LIMIT, GraphTensor, all_tensors, import_onnx
from trtserve.errors import ConfigurationError, ModelLoadError
from trtserve.model.spec import Shape
from trtserve.model.tensor import DATATYPES

SEED = 0
"""Of all generated inputs, so that the same question has the same answer."""

Arrays = dict[str, np.ndarray[Any, Any]]

_NOISE = re.compile(
    r"\[ONNXRuntimeError\] : \d+ : \w+ : |\S+\.(?:cc|h|cpp):\d+ \S+ |Error in execution: "
)

_MAX_LENGTH = 300
"""Characters of a message: the cause comes first."""

_FATAL = 4
"""ONNX Runtime's highest log level: what matters comes back as an exception."""


@dataclass(frozen=True, slots=True)
class Inputs:
    """How to make inputs. Numbers are normal, or bytes as pixels are."""

    seed: int = SEED
    pixels: bool = False

    def make(self, tensors: Sequence[GraphTensor], shapes: Mapping[str, Shape]) -> Arrays:
        """One array for each input. Raises ConfigurationError for types without numbers."""
        random = np.random.default_rng(self.seed)
        return {tensor.name: self._one(random, tensor, shapes[tensor.name]) for tensor in tensors}

    def _one(
        self, random: np.random.Generator, tensor: GraphTensor, shape: Shape
    ) -> np.ndarray[Any, Any]:
        if tensor.datatype not in DATATYPES or tensor.datatype == "BYTES":
            raise ConfigurationError(
                f"input {tensor} can not be made up", where="samples",
                cure="Give samples of all inputs",
            )
        numpy = DATATYPES[tensor.datatype].numpy
        made: np.ndarray[Any, Any]
        if tensor.datatype in ("FP32", "FP16", "BF16", "FP64"):
            made = random.uniform(0, 255, shape) if self.pixels else random.standard_normal(shape)
        elif tensor.datatype == "UINT8":
            made = random.integers(0, 256, shape)
        else:
            # Integers are mostly indices: 0 and 1 are in every table.
            made = random.integers(0, 2, shape)
        return made.astype(numpy)


class Session:
    """A model, loaded. `close` gives back what it keeps on disk."""

    def __init__(self, model: Any) -> None:
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        try:
            self._session = self._load(model)
        except Exception as error:  # ONNX Runtime's exceptions have no base
            self.close()
            if isinstance(error, ConfigurationError):
                raise
            raise ModelLoadError(
                f"ONNX Runtime does not load it: {readable(error)}",
                cure="Check the model with onnx.checker, or export it again",
            ) from error
        self.inputs = {node.name: node.type for node in self._session.get_inputs()}
        self.outputs = [node.name for node in self._session.get_outputs()]

    def run(self, inputs: Arrays) -> Arrays:
        """All outputs by name. Raises ModelLoadError with the reason."""
        try:
            found = self._session.run(self.outputs, inputs)
        except Exception as error:
            shapes = ", ".join(f"{name}{list(one.shape)}" for name, one in inputs.items())
            raise ModelLoadError(f"does not run with {shapes}: {readable(error)}") from error
        return dict(zip(self.outputs, map(np.asarray, found), strict=True))

    def close(self) -> None:
        """Twice is harmless."""
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None

    def __enter__(self) -> "Session":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _load(self, model: Any) -> Any:
        onnxruntime = _import_onnxruntime()
        options = onnxruntime.SessionOptions()
        options.log_severity_level = _FATAL
        source: Any
        if weight_bytes(model) < PROTOBUF_LIMIT // 2:
            source = model.SerializeToString()
        else:
            self._folder = tempfile.TemporaryDirectory(prefix="trtserve-build-")
            source = str(Path(self._folder.name) / "model.onnx")
            save(model, Path(source))
        return onnxruntime.InferenceSession(
            source, options, providers=["CPUExecutionProvider"], enable_fallback=0
        )


def save(model: Any, path: Path) -> None:
    """Write a model to a file; its weights beside it where one file can not hold them."""
    onnx = import_onnx()
    if weight_bytes(model) < PROTOBUF_LIMIT // 2:
        onnx.save(model, str(path))
        return
    # Saving this way empties the model that it is given.
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    onnx.save(copy, str(path), save_as_external_data=True, location=f"{path.name}.data")


def weight_bytes(model: Any) -> int:
    """Bytes of the weights and constants that a model holds: nearly all that it weighs."""
    return sum(
        len(tensor.raw_data) or 4 * (len(tensor.float_data) + len(tensor.int32_data))
        for tensor in all_tensors(model.graph)
    )


def readable(error: BaseException) -> str:
    """The cause in one line."""
    text = _NOISE.sub("", " ".join(str(error).split())) or type(error).__name__
    return text if len(text) <= _MAX_LENGTH else text[: _MAX_LENGTH - 3] + "..."


def _import_onnxruntime() -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise ConfigurationError(
            "ONNX Runtime, which runs models to compare them, is not installed",
            cure="Install it: pip install 'trtserve[cpu]'",
        ) from error
    return onnxruntime
