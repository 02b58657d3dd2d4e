"""A worker whose engines can be told to write where they must not: once for each trigger file.

SPOIL names the trigger. While it exists, the next run takes it away and, on its lane's own
stream, launches a kernel that writes to address 0.
"""

import os
from collections.abc import Sequence
from pathlib import Path

from tests.gpu.kernels import illegal_access
from trtserve.device.interface import Stream
from trtserve.engine.interface import Context, TensorMemory
from trtserve.ipc.channel import Channel
from trtserve.ipc.message import Start
from trtserve.testing.wrapped import WrappedContext, serve_wrapped

SPOIL = "TRTSERVE_TEST_SPOIL"


class FaultyContext(WrappedContext):
    """A context that looks for the trigger before each run."""

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._trigger = Path(os.environ[SPOIL])

    def enqueue(
        self, stream: Stream, inputs: Sequence[TensorMemory],
        outputs: Sequence[TensorMemory | None],
    ) -> Sequence[TensorMemory]:
        try:
            self._trigger.unlink()
        except FileNotFoundError:
            pass
        else:
            illegal_access(stream.handle)
        return super().enqueue(stream, inputs, outputs)


def main(control: Channel, start: Start) -> int:
    """What the supervisor starts instead of the ordinary worker."""
    return serve_wrapped(control, start, FaultyContext)
