"""A worker that grows, for the check that has to notice it: what it was sent is kept for ever."""

from collections.abc import Sequence
from ctypes import string_at

from trtserve.device.interface import Stream
from trtserve.engine.interface import TensorMemory
from trtserve.ipc.channel import Channel
from trtserve.ipc.message import Start
from trtserve.testing.wrapped import WrappedContext, serve_wrapped

KEEP = 16
"""Copies of each input."""

_UNBOUNDED: list[bytes] = []
"""A queue that nobody reads."""


class LeakyContext(WrappedContext):
    """A context that puts every input into the queue."""

    def enqueue(
        self, stream: Stream, inputs: Sequence[TensorMemory],
        outputs: Sequence[TensorMemory | None],
    ) -> Sequence[TensorMemory]:
        """Keep, and run."""
        for memory in inputs:
            _UNBOUNDED.extend(string_at(memory.address, memory.size) for _ in range(KEEP))
        return super().enqueue(stream, inputs, outputs)


def main(control: Channel, start: Start) -> int:
    """What the supervisor starts instead of the ordinary worker."""
    return serve_wrapped(control, start, LeakyContext)
