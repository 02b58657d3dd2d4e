"""One of TensorRT's execution contexts, fixed to one profile.

What is set once stays set: a run with the shapes and addresses of the last one only queues it.
"""

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, NoReturn

import numpy as np

from trtserve.device.interface import Buffer, Device, Stream
from trtserve.engine.interface import TensorMemory
from trtserve.engine.tensorrt_errors import PlanErrors
from trtserve.engine.tensorrt_outputs import OutputPlace, output_allocator
from trtserve.engine.tensorrt_signature import Port, Signature
from trtserve.engine.tensorrt_variants import Profile
from trtserve.errors import InvalidRequest
from trtserve.model.spec import ANY
from trtserve.model.tensor import DATATYPES, Shape


@dataclass(frozen=True, slots=True)
class LoadedPlan:
    """What all contexts of one plan share: the runtime's module, and its engine with the weights.

    `strategy` is what contexts are made with.
    """

    module: Any
    engine: Any
    strategy: Any
    signature: Signature
    errors: PlanErrors
    device: Device


class Execution:
    """Shapes, addresses and runs of one execution context. One thread at a time uses it."""

    def __init__(self, plan: LoadedPlan, profile: Profile, context: Any) -> None:
        self._plan = plan
        self._profile = profile
        self._context = context
        self._inputs, self._outputs = plan.signature.inputs, plan.signature.outputs
        self._reads_host = plan.signature.reads_host
        self._writes_host = any(port.on_host for port in self._outputs)
        self._shapes: tuple[Shape, ...] | None = None
        self._found: list[Shape | None] = []
        """The outputs' shapes for `_shapes`; None: the data decide."""
        self._bound: dict[str, int] = {}
        self._own: dict[str, Buffer] = {}
        self._places: dict[str, OutputPlace] = {}
        self._allocators: list[Any] = []

    @property
    def decided_by_data(self) -> bool:
        """Whether an output's shape depends on the data, as far as shapes were set yet."""
        return bool(self._places)

    def output_shapes(self, shapes: tuple[Shape, ...]) -> list[Shape | None]:
        """The outputs' whole shapes for these whole input shapes; None: known after the run
        only, or TensorRT's own to place. Raises ExecutionFailed."""
        if self._reads_host:
            return [None] * len(self._outputs)
        if shapes != self._shapes:
            self._set_shapes(shapes)
        return [
            None if port.on_host else shape
            for port, shape in zip(self._outputs, self._found, strict=True)
        ]

    def take_largest(self) -> int:
        """Set the profile's largest shapes, and take the memory of outputs whose shapes the
        data decide. Returns the bytes of all inputs and outputs then.

        Raises ExecutionFailed, DeviceError.
        """
        largest = tuple(shapes.max for shapes in self._profile.ranges)
        for port, values in zip(self._inputs, self._profile.values, strict=True):
            if port.on_host:
                zeros = np.zeros(prod(port.shape), np.int64)
                self._set_values(port, np.array(values[2]) if values else zeros)
        self._set_shapes(largest)
        total = sum(
            port.size(shape) for port, shape in zip(self._inputs, largest, strict=True)
        )
        for port, shape in zip(self._outputs, self._found, strict=True):
            if shape is not None:
                total += port.size(shape)
                continue
            size = max(0, self._context.get_max_output_size(port.name))
            self._places[port.name].reserve(size)
            total += size
        return total

    def straying(self) -> str | None:
        """An output that has other rows than the inputs whose shapes are set; None if all keep
        them."""
        rows = self._shapes[0][:1] if self._shapes else ()
        for port in self._outputs:
            if tuple(self._context.get_tensor_shape(port.name))[:1] != rows:
                return port.name
        return None

    def run(
        self, stream: Stream, shapes: tuple[Shape, ...], inputs: Sequence[TensorMemory],
        outputs: Sequence[TensorMemory | None],
    ) -> list[TensorMemory]:
        """Queue one run; see Context.enqueue. `shapes` are the inputs'. Raises InvalidRequest for
        values that the profile does not take."""
        if self._reads_host:
            # Shapes follow from the values, so they have to be set anew with each.
            self._bring_values(stream, inputs)
            self._shapes = None
        if shapes != self._shapes:
            self._set_shapes(shapes)
        for port, memory in zip(self._inputs, inputs, strict=True):
            if not port.on_host:
                self._bind(port.name, memory.address)
        results = [
            self._placed(port, shape, given)
            for port, shape, given in zip(self._outputs, self._found, outputs, strict=True)
        ]
        if not self._context.execute_async_v3(stream.handle):
            self._raise_run_error()
        if self._places:
            for index, port in enumerate(self._outputs):
                if port.name in self._places:
                    place = self._places[port.name]
                    size = port.size(place.shape)
                    results[index] = TensorMemory(place.address, size, place.shape)
        if self._writes_host:
            # Copies between two places on the host do not wait for a stream.
            stream.synchronize()
        return results

    def queue(self, stream: Stream) -> bool:
        """Queue the last run again, as a capture does. Returns whether TensorRT took it."""
        return bool(self._context.execute_async_v3(stream.handle))

    def capturable(self, stream: Stream) -> bool:
        """Whether TensorRT lets its run be captured, as far as it says."""
        asks = getattr(self._context, "is_stream_capturable", None)
        return asks is None or bool(asks(stream.handle))

    def close(self) -> None:
        """Free the context and its memory. Twice is harmless."""
        self._context = None
        self._allocators.clear()
        for buffer in self._own.values():
            buffer.close()
        for place in self._places.values():
            place.close()
        self._own.clear()
        self._places.clear()

    # --- inside --------------------------------------------------------------------------

    def _set_shapes(self, shapes: tuple[Shape, ...]) -> None:
        context, errors = self._context, self._plan.errors
        self._shapes = None
        for port, shape in zip(self._inputs, shapes, strict=True):
            if not port.fixed and not context.set_input_shape(port.name, shape):
                raise errors.run(f"input '{port.name}' does not take the shape {list(shape)}")
        try:
            missing = context.infer_shapes()
        except RuntimeError as error:
            raise errors.run(f"the shapes {list(map(list, shapes))} do not fit") from error
        if missing:
            raise errors.run(f"nothing says what {', '.join(missing)} is like")
        self._found = [self._find_shape(port) for port in self._outputs]
        self._shapes = shapes

    def _find_shape(self, port: Port) -> Shape | None:
        shape = tuple(self._context.get_tensor_shape(port.name))
        if ANY not in shape:
            return shape
        if port.name not in self._places:
            place = OutputPlace(port.name, self._plan.device.allocate)
            allocator = output_allocator(self._plan.module, place)
            if not self._context.set_output_allocator(port.name, allocator):
                raise self._plan.errors.run(f"output '{port.name}' takes no allocator")
            self._places[port.name] = place
            self._allocators.append(allocator)
        return None

    def _placed(
        self, port: Port, shape: Shape | None, given: TensorMemory | None
    ) -> TensorMemory:
        """Where an output goes: where the caller wants it, if that fits."""
        if shape is None:
            return TensorMemory(0, 0, ())  # known after the run
        if given is None or given.shape != shape or port.on_host:
            size = port.size(shape)
            given = TensorMemory(self._room(port, size), size, shape)
        self._bind(port.name, given.address)
        return given

    def _bind(self, name: str, address: int) -> None:
        if self._bound.get(name) == address:
            return
        if not self._context.set_tensor_address(name, address):
            self._bound.pop(name, None)
            raise self._plan.errors.run(f"tensor '{name}' can not be at {address:#x}")
        self._bound[name] = address

    def _room(self, port: Port, size: int) -> int:
        """The address of memory of the context's own, on the host for what TensorRT has there."""
        held = self._own.get(port.name)
        if held is None or held.size < size:
            if held is not None:
                held.close()
            device = self._plan.device
            make = device.allocate_staging if port.on_host else device.allocate
            self._own[port.name] = held = make(max(1, size))
        return held.address

    def _bring_values(self, stream: Stream, inputs: Sequence[TensorMemory]) -> None:
        """Copy what TensorRT reads on the host to there, and check it."""
        found = []
        for port, memory in zip(self._inputs, inputs, strict=True):
            if port.on_host:
                address = self._room(port, memory.size)
                stream.copy([(address, memory.address, memory.size)])
                found.append((port, address, memory.size))
        stream.synchronize()
        limits = {
            port.name: values
            for port, values in zip(self._inputs, self._profile.values, strict=True)
        }
        for port, address, size in found:
            data = ctypes.string_at(address, size)
            values = np.frombuffer(data, DATATYPES[port.datatype].numpy)
            self._set_values(port, _within(port.name, values, limits[port.name]))

    def _set_values(self, port: Port, values: np.ndarray[Any, Any]) -> None:
        data = values.astype(DATATYPES[port.datatype].numpy).tobytes()
        address = self._room(port, len(data))
        ctypes.memmove(address, data, len(data))
        self._bind(port.name, address)

    def _raise_run_error(self) -> NoReturn:
        # Nobody knows what of it TensorRT still holds.
        self._shapes = None
        self._bound.clear()
        for place in self._places.values():
            error, place.error = place.error, None
            if error is not None:
                self._plan.errors.log.take()
                raise error
        raise self._plan.errors.run("the run failed")


def _within(
    name: str, values: np.ndarray[Any, Any], limits: tuple[tuple[int, ...], ...] | None
) -> np.ndarray[Any, Any]:
    """Values that shapes depend on, if the profile takes them.

    All zeros, which are no shape, stand for the profile's opt values: that is what models are
    warmed up with. Raises InvalidRequest.
    """
    if limits is None or prod(values.shape) != len(limits[0]):
        return values
    low, opt, high = map(np.array, limits)
    if ((low <= values) & (values <= high)).all():
        return values
    if not values.any():
        return opt
    raise InvalidRequest(
        f"input '{name}' has the values {values.tolist()}; this model takes {low.tolist()} to "
        f"{high.tolist()}"
    )


def open_execution(
    plan: LoadedPlan, profile: Profile, stream: Stream, scratch: tuple[int, int] | None
) -> Execution:
    """A new execution context on a profile. `scratch`: its memory's address and size; None: it
    is not to run. Raises ModelLoadError."""
    context = plan.engine.create_execution_context(plan.strategy)
    if context is None:
        raise plan.errors.load("no context can be made for it")
    try:
        chosen = context.set_optimization_profile_async(profile.index, stream.handle)
    except RuntimeError:  # what some versions do instead of returning False
        chosen = False
    if not chosen:
        raise plan.errors.load(f"its profile {profile.index} can not be chosen")
    if scratch is not None:
        context.set_device_memory(*scratch)
    verbosity = plan.module.ProfilingVerbosity
    if context.nvtx_verbosity == verbosity.DETAILED:
        # Plans are built so that they can be explained, which would make every run slower.
        context.nvtx_verbosity = verbosity.LAYER_NAMES_ONLY
    return Execution(plan, profile, context)
