"""A worker whose engines can be told to write where they must not: once for each trigger file.

    SPOIL names the trigger. While it exists, the next run takes it away and, on its lane's own
    stream, launches a kernel that writes to address 0.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from tests.gpu.kernels import illegal_access
from trtserve.device.interface import Device, Stream
from trtserve.engine.interface import Context, Engine, TensorMemory
from trtserve.engine.onnxruntime import OnnxRuntime
from trtserve.ipc.channel import Channel
from trtserve.ipc.message import Start
from trtserve.worker.process import serve

SPOIL = "TRTSERVE_TEST_SPOIL"


class FaultyRuntime:
    """ONNX Runtime with spoilt contexts."""

    def __init__(self) -> None:
        self._runtime = OnnxRuntime()
        self.suffixes = self._runtime.suffixes

    def load(self, path: str, device: Device, options: Mapping[str, str]) -> Engine:
        return FaultyEngine(self._runtime.load(path, device, options))


class FaultyEngine:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.platform = engine.platform
        self.variants = engine.variants
        self.pins = engine.pins
        self.captures = engine.captures

    def create_context(self, *arguments: Any, **options: Any) -> Context:
        return cast("Context", FaultyContext(self._engine.create_context(*arguments, **options)))

    def close(self) -> None:
        self._engine.close()


class FaultyContext:
    def __init__(self, context: Context) -> None:
        self._context = context
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
        return self._context.enqueue(stream, inputs, outputs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)


def main(control: Channel, start: Start) -> int:
    """What the supervisor starts instead of the ordinary worker."""
    return serve(control, start, lambda _: [FaultyRuntime()])
