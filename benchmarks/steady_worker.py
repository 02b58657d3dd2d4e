"""A worker whose runs take a known time and no processor: what an accelerator is to its host.

ONNX Runtime computes the answer, and the run then waits for what is left of STEADY (two numbers:
milliseconds of a run and of each row).
"""

import os
from collections.abc import Sequence

from trtserve import clock
from trtserve.clock import NS_PER_MS, NS_PER_S
from trtserve.device.interface import Stream
from trtserve.engine.interface import Context, TensorMemory
from trtserve.ipc.channel import Channel
from trtserve.ipc.message import Start
from trtserve.testing.wrapped import WrappedContext, serve_wrapped

STEADY = "STEADY_MS"


class SteadyContext(WrappedContext):
    """A context whose runs take the time that STEADY says."""

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        run, row = os.environ[STEADY].split(",")
        self._run_ns, self._row_ns = (int(float(each) * NS_PER_MS) for each in (run, row))

    def enqueue(
        self, stream: Stream, inputs: Sequence[TensorMemory],
        outputs: Sequence[TensorMemory | None],
    ) -> Sequence[TensorMemory]:
        """Run, and wait for the rest of the time."""
        end = clock.now_ns() + self._run_ns + self._row_ns * inputs[0].shape[0]
        made = super().enqueue(stream, inputs, outputs)
        clock.pause(max(0, end - clock.now_ns()) / NS_PER_S)
        return made


def main(control: Channel, start: Start) -> int:
    """What the supervisor starts instead of the ordinary worker."""
    return serve_wrapped(control, start, SteadyContext)
