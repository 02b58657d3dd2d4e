"""An engine that computes in NumPy on the given addresses, with scripted times and failures."""

import ctypes
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from trtserve.device.host import HostBuffer
from trtserve.device.interface import Device, Stream
from trtserve.engine.interface import TensorMemory
from trtserve.errors import ModelLoadError
from trtserve.model.spec import ShapeRange, TensorSpec, VariantSpec
from trtserve.model.tensor import Shape, decode, encode
from trtserve.testing.device import FakeStream

Arrays = Sequence[np.ndarray[Any, Any]]


def identity(arrays: Arrays) -> Arrays:
    """Each input is an output."""
    return arrays


def doubling(arrays: Arrays) -> Arrays:
    """Each input twice as large is an output."""
    return [array + array for array in arrays]


def fake_variant(
    name: str = "fake", *, row: Shape = (4,), max_batch: int = 8, datatype: str = "FP32"
) -> VariantSpec:
    """A variant with one input `x` and one output `y` of one row's shape `row`; batched unless
    `max_batch` is 0."""
    shape = (-1, *row) if max_batch else row
    shapes = ShapeRange((1, *row), (max_batch, *row)) if max_batch else ShapeRange(row, row)
    return VariantSpec(
        name, (TensorSpec("x", datatype, shape),), (TensorSpec("y", datatype, shape),),
        (shapes,), max_batch,
    )


@dataclass
class FakeScript:
    """How an engine behaves.

    `service_ns` gives a run's time for its rows (dimension 0 of the first input); it passes on a
    FakeStream. `failures` maps the nth run (from 1, over all contexts) to what it raises.
    `shapes_known`: whether outputs can be placed before the run, by their inputs' shapes.
    """

    compute: Callable[[Arrays], Arrays] = identity
    service_ns: Callable[[int], int] = lambda rows: 1_000_000
    failures: Mapping[int, Exception] = field(default_factory=dict)
    shapes_known: bool = True


class FakeEngine:
    """An engine of the given variants."""

    platform = "fake"

    def __init__(self, *variants: VariantSpec, script: FakeScript | None = None) -> None:
        self.variants = variants or (fake_variant(),)
        self.script = script or FakeScript()
        self.runs = 0
        self.contexts: list[FakeContext] = []
        self.closed = False

    def create_context(self, variant: int) -> "FakeContext":
        """A context for the variant of that index."""
        self.contexts.append(FakeContext(self, self.variants[variant]))
        return self.contexts[-1]

    def close(self) -> None:
        """Twice is harmless. Raises AssertionError while a context is open."""
        assert all(context.closed for context in self.contexts), "a context is still open"
        self.closed = True


class FakeContext:
    """Runs one variant."""

    def __init__(self, engine: FakeEngine, variant: VariantSpec) -> None:
        self._engine = engine
        self._variant = variant
        self._kept: list[HostBuffer] = []
        self.closed = False

    def output_shapes(self, inputs: Sequence[Shape]) -> list[Shape | None]:
        """Each output has the shape of the input with its index, or of the last one."""
        known = self._engine.script.shapes_known
        return [
            inputs[min(index, len(inputs) - 1)] if known and spec.datatype != "BYTES" else None
            for index, spec in enumerate(self._variant.outputs)
        ]

    def enqueue(
        self,
        stream: Stream,
        inputs: Sequence[TensorMemory],
        outputs: Sequence[TensorMemory | None],
    ) -> list[TensorMemory]:
        """Compute now; the script's time passes on the stream."""
        engine, script = self._engine, self._engine.script
        engine.runs += 1
        if engine.runs in script.failures:
            raise script.failures[engine.runs]
        arrays = [
            decode(spec.datatype, memory.shape, _view(memory))
            for spec, memory in zip(self._variant.inputs, inputs, strict=True)
        ]
        results = script.compute(arrays)
        if isinstance(stream, FakeStream):
            rows = inputs[0].shape[0] if inputs and inputs[0].shape else 1
            stream.run(f"compute {rows}", script.service_ns(rows))
        self._release()
        return [
            self._store(result, place) for result, place in zip(results, outputs, strict=True)
        ]

    def close(self) -> None:
        """Twice is harmless."""
        self._release()
        self.closed = True

    def _store(
        self, result: np.ndarray[Any, Any], place: TensorMemory | None
    ) -> TensorMemory:
        data = encode(result)
        if place is None or place.shape != result.shape:
            buffer = HostBuffer(len(data))
            self._kept.append(buffer)
            place = TensorMemory(buffer.address, len(data), result.shape)
        ctypes.memmove(place.address, data, len(data))
        return place

    def _release(self) -> None:
        for buffer in self._kept:
            buffer.close()
        self._kept.clear()


class FakeRuntime:
    """Hands out prepared engines by file name; nothing is read."""

    suffixes = (".fake",)

    def __init__(self, engines: Mapping[str, FakeEngine | ModelLoadError]) -> None:
        self._engines = engines

    def load(self, path: str, device: Device, options: Mapping[str, str]) -> FakeEngine:
        """The engine of that name. Raises the ModelLoadError in its place, or one if none is."""
        found = self._engines.get(os.path.basename(path))
        if found is None:
            raise ModelLoadError("no such fake engine", where=path, cure="Prepare one")
        if isinstance(found, ModelLoadError):
            raise found
        return found


def memory_of(array: np.ndarray[Any, Any]) -> TensorMemory:
    """An array as an engine sees it. The caller keeps the array, which is C-contiguous."""
    return TensorMemory(array.ctypes.data, array.nbytes, array.shape)


def read(memory: TensorMemory, datatype: str = "FP32") -> np.ndarray[Any, Any]:
    """A copy of what the memory holds."""
    return decode(datatype, memory.shape, bytes(_view(memory)))


def _view(memory: TensorMemory) -> memoryview:
    return memoryview((ctypes.c_char * memory.size).from_address(memory.address)).cast("B")
