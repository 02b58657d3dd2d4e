"""What an inference runtime is to the worker: engines (weights) and contexts (to run them).

Written for TensorRT, where an engine is shared by all lanes, a context belongs to one lane, and
a run is queued on a stream. ONNX Runtime on the CPU is the simple case.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from trtserve.device.interface import Device, Stream
from trtserve.engine.scratch import Scratch
from trtserve.model.spec import VariantSpec
from trtserve.model.tensor import Shape


@dataclass(frozen=True, slots=True)
class TensorMemory:
    """A tensor in memory that the engine can reach.

    `size` in bytes; for BYTES tensors the memory holds the wire encoding (model/tensor.py).
    """

    address: int
    size: int
    shape: Shape


class Context(Protocol):
    """Runs one variant on one lane. Only that lane's thread touches it."""

    def output_shapes(self, inputs: Sequence[Shape]) -> Sequence[Shape | None]:
        """The outputs' whole shapes for these whole input shapes; None: known after the run
        only, or of variable size (BYTES)."""

    def enqueue(
        self,
        stream: Stream,
        inputs: Sequence[TensorMemory],
        outputs: Sequence[TensorMemory | None],
    ) -> Sequence[TensorMemory]:
        """Queue one run. Outputs given as None are the engine's to place; their memory is valid
        until the next enqueue on this context. Only outputs whose shapes `output_shapes` gave
        may be placed by the caller.

        Returns all outputs, with their shapes; one that the caller placed is elsewhere, and the
        engine's, if its predicted shape proved wrong. Raises ExecutionFailed when this run
        failed, and DeviceError when the device did.
        """

    def capture(
        self, stream: Stream, inputs: Sequence[TensorMemory], outputs: Sequence[TensorMemory]
    ) -> None:
        """Record one run as a graph. From now on `enqueue` replays it, and has to be given these
        very places. Only for contexts that were made for their shapes.

        Raises ExecutionFailed where the engine can not be captured; the context is then as it
        was before.
        """

    def release_graph(self) -> None:
        """Forget the captured graph: runs are queued one by one again."""

    def close(self) -> None:
        """Give it back. Twice is harmless."""


class Engine(Protocol):
    """One loaded file."""

    @property
    def platform(self) -> str:
        """The name that metadata give, such as `onnxruntime_onnx`."""

    @property
    def variants(self) -> tuple[VariantSpec, ...]:
        """One for each optimization profile, as the file declares them: `max_batch` is 1 or more
        where dimension 0 can be a batch, as far as the engine can tell, else 0."""

    @property
    def pins(self) -> bool:
        """Whether contexts made for one shape only are worth their memory, because a change of
        shape costs much: batches are then padded to the sizes that there are contexts for."""

    @property
    def captures(self) -> bool:
        """Whether contexts made for their shapes may be captured in graphs."""

    def create_context(
        self, variant: int, stream: Stream, shapes: Sequence[Shape] | None = None,
        scratch: Scratch | None = None,
    ) -> Context:
        """A context for the variant of that index, which runs on that stream only.

        With `shapes`, the inputs' whole shapes, it is made for these alone. It is made, used and
        closed in the thread of the lane that owns the stream. `scratch` is that lane's; engines
        that can not share it, or are not given it, have memory of their own. Raises
        ModelLoadError, with the bytes needed and free where memory is short.
        """

    def close(self) -> None:
        """Free the weights. All contexts are closed before. Twice is harmless."""


class Runtime(Protocol):
    """Loads the engine files of one kind onto one device."""

    @property
    def suffixes(self) -> tuple[str, ...]:
        """The file names' ends that it loads, such as `.onnx`."""

    def load(self, path: str, device: Device, options: Mapping[str, str]) -> Engine:
        """Load one file. `options` are the model configuration's `parameters`.

        Raises ModelLoadError that names the file, the cause and the cure.
        """
