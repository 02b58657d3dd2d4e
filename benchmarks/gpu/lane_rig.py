"""One lane by hand: a thread's streams, memory and contexts for the case, without the worker."""

import ctypes
from collections.abc import Mapping, Sequence
from math import prod

import numpy as np

from trtserve.device.interface import Buffer, Device, Event, Stream
from trtserve.engine.interface import Context, Engine, TensorMemory

CLASSES, ITEMSIZE = 1000, 2
"""Of the logits, FP16."""


class Place:
    """A context that runs batches of one shape in memory of its own, on device and host."""

    def __init__(
        self, device: Device, stream: Stream, engine: Engine, shape: Sequence[int]
    ) -> None:
        whole = tuple(shape)
        out = (whole[0], CLASSES)
        self.rows = whole[0]
        self.in_bytes, self.out_bytes = prod(whole), prod(out) * ITEMSIZE
        self.buffers: tuple[Buffer, ...] = (
            device.allocate(self.in_bytes), device.allocate(self.out_bytes),
            device.allocate_staging(self.in_bytes), device.allocate_staging(self.out_bytes),
        )
        self.device_in, self.device_out, self.host_in, self.host_out = (
            buffer.address for buffer in self.buffers
        )
        self.inputs = [TensorMemory(self.device_in, self.in_bytes, whole)]
        self.outputs = [TensorMemory(self.device_out, self.out_bytes, out)]
        self.context: Context = engine.create_context(0, stream, (whole,))
        self.graph = False

    def copy_in(self, stream: Stream, source: int = 0) -> None:
        """Copy from the host: from its own staging memory, or from elsewhere."""
        stream.copy([(self.device_in, source or self.host_in, self.in_bytes)])

    def copy_out(self, stream: Stream) -> None:
        """Copy the results to the host."""
        stream.copy([(self.host_out, self.device_out, self.out_bytes)])

    def run(self, stream: Stream) -> None:
        """Queue one run."""
        self.context.enqueue(stream, self.inputs, self.outputs)

    def capture(self, stream: Stream) -> None:
        """From now on runs are replays of a graph. Raises ExecutionFailed where that is not so."""
        self.context.capture(stream, self.inputs, self.outputs)
        self.graph = True

    def result(self) -> np.ndarray:
        """What copy_out has brought, FP16 [rows, 1000]."""
        data = view_of(self.host_out, self.out_bytes).tobytes()
        return np.frombuffer(data, np.float16).reshape(self.rows, CLASSES)

    def close(self) -> None:
        """Give everything back."""
        self.context.close()
        for buffer in self.buffers:
            buffer.close()


class LaneRig:
    """A stream and a Place for each size. Made, used and closed in one thread."""

    def __init__(
        self, device: Device, engines: Mapping[int, Engine], batch: int,
        pictures: Mapping[int, np.ndarray], *, graphs: bool = False,
    ) -> None:
        device.enter_thread()
        self.stream = device.create_stream()
        self.events: tuple[Event, ...] = (device.create_event(), device.create_event())
        self.places: dict[int, Place] = {}
        for size, engine in engines.items():
            place = self.places[size] = Place(
                device, self.stream, engine, (batch, 3, size, size)
            )
            pixels = np.resize(pictures[size], (batch, 3, size, size))
            view_of(place.host_in, place.in_bytes)[:] = pixels.reshape(-1)
            place.copy_in(self.stream)
            for _ in range(3):
                place.run(self.stream)
            self.stream.synchronize()
            if graphs and engine.captures:
                place.capture(self.stream)
        self.stream.synchronize()

    def close(self) -> None:
        """Give everything back."""
        for place in self.places.values():
            place.close()
        self.stream.close()


def view_of(address: int, size: int) -> np.ndarray:
    """Host memory as bytes."""
    return np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(address))
