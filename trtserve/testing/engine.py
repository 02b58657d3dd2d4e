"""An engine that computes in NumPy on the given addresses, with scripted times and failures."""

import ctypes
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from trtserve.device.host import HostBuffer
from trtserve.device.interface import Buffer, Device, Stream
from trtserve.engine.interface import TensorMemory
from trtserve.engine.scratch import Scratch
from trtserve.errors import ModelLoadError
from trtserve.model.spec import ANY, ShapeRange, TensorSpec, VariantSpec
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
    """A variant with one input `x` and one output `y` of one row's shape `row`, where ANY leaves
    a size to the request; batched unless `max_batch` is 0."""
    shape = (ANY, *row) if max_batch else row
    low = tuple(1 if size == ANY else size for size in row)
    shapes = ShapeRange((1, *low), (max_batch, *row)) if max_batch else ShapeRange(low, row)
    return VariantSpec(
        name, (TensorSpec("x", datatype, shape),), (TensorSpec("y", datatype, shape),),
        (shapes,), max_batch,
    )


@dataclass
class FakeScript:
    """How an engine behaves.

    `service_ns` gives a run's time for its rows (dimension 0 of the first input); it passes on a
    FakeStream. `failures` maps the nth run (from 1, over all contexts) to what it raises,
    `context_failures` the nth context made.
    `shapes_known`: whether outputs can be placed before the run, by their inputs' shapes.
    `pins` and `captures` are what the engine says of itself; `capture` is what capturing raises,
    or, given a function, what replays compute. Each context holds `scratch_bytes` of its lane's
    scratch memory. The engine takes `weight_bytes` of the device that it is loaded on.
    """

    compute: Callable[[Arrays], Arrays] = identity
    service_ns: Callable[[int], int] = lambda rows: 1_000_000
    failures: Mapping[int, Exception] = field(default_factory=dict)
    shapes_known: bool = True
    pins: bool = False
    captures: bool = False
    capture: Exception | Callable[[Arrays], Arrays] | None = None
    context_failures: Mapping[int, Exception] = field(default_factory=dict)
    scratch_bytes: int = 0
    weight_bytes: int = 0


class FakeEngine:
    """An engine of the given variants."""

    platform = "fake"

    def __init__(self, *variants: VariantSpec, script: FakeScript | None = None) -> None:
        self.variants = variants or (fake_variant(),)
        self.script = script or FakeScript()
        self.runs = 0
        self.contexts: list[FakeContext] = []
        self.closed = False
        self.weights: Buffer | None = None

    @property
    def pins(self) -> bool:
        """As scripted."""
        return self.script.pins

    @property
    def captures(self) -> bool:
        """As scripted."""
        return self.script.captures

    def create_context(
        self, variant: int, stream: Stream, shapes: Sequence[Shape] | None = None,
        scratch: Scratch | None = None,
    ) -> "FakeContext":
        """A context for the variant of that index. Raises what the script has for the nth."""
        failure = self.script.context_failures.get(len(self.contexts) + 1)
        if failure is not None:
            raise failure
        context = FakeContext(self, self.variants[variant], stream, shapes)
        if scratch is not None and self.script.scratch_bytes:
            context.hold(scratch, self.script.scratch_bytes)
        self.contexts.append(context)
        return context

    def close(self) -> None:
        """Twice is harmless. Raises AssertionError while a context is open."""
        assert all(context.closed for context in self.contexts), "a context is still open"
        if self.weights is not None:
            self.weights.close()
        self.closed = True


class FakeContext:
    """Runs one variant."""

    def __init__(
        self, engine: FakeEngine, variant: VariantSpec, stream: Stream,
        shapes: Sequence[Shape] | None,
    ) -> None:
        self._engine = engine
        self._variant = variant
        self._kept: list[HostBuffer] = []
        self.shapes = None if shapes is None else tuple(shapes)
        self.places: tuple[TensorMemory, ...] | None = None
        """Where a captured run reads and writes."""
        self.threads: set[str] = set()
        """The names of all threads that made, used or closed it."""
        self.streams: set[int] = set()
        """The handles of all streams that it was made for and ran on."""
        self.closed = False
        self._scratch: tuple[Scratch, int] | None = None
        self._used(stream)

    def hold(self, scratch: Scratch, size: int) -> None:
        """Hold scratch memory until it is closed."""
        scratch.hold(size)
        self._scratch = scratch, size

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
        self._used(stream)
        shapes = tuple(memory.shape for memory in inputs)
        assert self.shapes in (None, shapes), f"a context for {self.shapes} was given {shapes}"
        assert self.places is None or self.places == (*inputs, *outputs), "a graph's places moved"
        engine.runs += 1
        if engine.runs in script.failures:
            raise script.failures[engine.runs]
        arrays = [
            decode(spec.datatype, memory.shape, _view(memory))
            for spec, memory in zip(self._variant.inputs, inputs, strict=True)
        ]
        replays = script.capture if callable(script.capture) and self.places else script.compute
        results = replays(arrays)
        if isinstance(stream, FakeStream):
            rows = inputs[0].shape[0] if inputs and inputs[0].shape else 1
            stream.run(f"compute {rows}", script.service_ns(rows))
        self._release()
        return [
            self._store(result, place) for result, place in zip(results, outputs, strict=True)
        ]

    def capture(
        self, stream: Stream, inputs: Sequence[TensorMemory], outputs: Sequence[TensorMemory]
    ) -> None:
        """Remember the places, or raise what the script says."""
        self._used(stream)
        if isinstance(self._engine.script.capture, Exception):
            raise self._engine.script.capture
        assert self.shapes is not None, "only contexts made for their shapes are captured"
        self.places = (*inputs, *outputs)

    def release_graph(self) -> None:
        """Forget the places."""
        self._used()
        self.places = None

    def close(self) -> None:
        """Twice is harmless."""
        self._used()
        self._release()
        held, self._scratch = self._scratch, None
        if held is not None:
            held[0].release(held[1])
        self.closed = True

    def _used(self, stream: Stream | None = None) -> None:
        self.threads.add(threading.current_thread().name)
        if stream is not None:
            self.streams.add(stream.handle)

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
    """Hands out prepared engines by file name; nothing is read. A file that is loaded more than
    once needs a function that makes a new one each time."""

    suffixes = (".fake",)

    def __init__(
        self, engines: Mapping[str, FakeEngine | ModelLoadError | Callable[[], FakeEngine]]
    ) -> None:
        self._engines = engines

    def load(self, path: str, device: Device, options: Mapping[str, str]) -> FakeEngine:
        """The engine of that name. Raises the ModelLoadError in its place, or one if none is."""
        found = self._engines.get(os.path.basename(path))
        if found is None:
            raise ModelLoadError("no such fake engine", where=path, cure="Prepare one")
        if isinstance(found, ModelLoadError):
            raise found
        engine = found if isinstance(found, FakeEngine) else found()
        if engine.script.weight_bytes:
            engine.weights = device.allocate(engine.script.weight_bytes)
        return engine


def memory_of(array: np.ndarray[Any, Any]) -> TensorMemory:
    """An array as an engine sees it. The caller keeps the array, which is C-contiguous."""
    return TensorMemory(array.ctypes.data, array.nbytes, array.shape)


def read(memory: TensorMemory, datatype: str = "FP32") -> np.ndarray[Any, Any]:
    """A copy of what the memory holds."""
    return decode(datatype, memory.shape, bytes(_view(memory)))


def _view(memory: TensorMemory) -> memoryview:
    return memoryview((ctypes.c_char * memory.size).from_address(memory.address)).cast("B")
