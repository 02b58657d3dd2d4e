"""ONNX Runtime with something around each run: a worker that takes its time, or has a fault."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from trtserve.device.interface import Device, Stream
from trtserve.engine.interface import Context, Engine, TensorMemory
from trtserve.engine.onnxruntime import OnnxRuntime
from trtserve.ipc.channel import Channel
from trtserve.ipc.message import Start
from trtserve.worker.process import serve


class WrappedContext:
    """A context that does all that the one in it does. Subclasses do more around `enqueue`."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def enqueue(
        self, stream: Stream, inputs: Sequence[TensorMemory],
        outputs: Sequence[TensorMemory | None],
    ) -> Sequence[TensorMemory]:
        """Run."""
        return self._context.enqueue(stream, inputs, outputs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)


Wrap = Callable[[Context], WrappedContext]


class WrappedEngine:
    """An engine whose contexts are wrapped."""

    def __init__(self, engine: Engine, wrap: Wrap) -> None:
        self._engine = engine
        self._wrap = wrap
        self.platform = engine.platform
        self.variants = engine.variants
        self.pins = engine.pins
        self.captures = engine.captures

    def create_context(self, *arguments: Any, **options: Any) -> Context:
        """A wrapped context."""
        return cast("Context", self._wrap(self._engine.create_context(*arguments, **options)))

    def close(self) -> None:
        """Give it back."""
        self._engine.close()


class WrappedRuntime:
    """ONNX Runtime with such engines."""

    def __init__(self, wrap: Wrap) -> None:
        self._runtime = OnnxRuntime()
        self._wrap = wrap
        self.suffixes = self._runtime.suffixes

    def load(self, path: str, device: Device, options: Mapping[str, str]) -> Engine:
        """As ONNX Runtime loads it."""
        return WrappedEngine(self._runtime.load(path, device, options), self._wrap)


def serve_wrapped(control: Channel, start: Start, wrap: Wrap) -> int:
    """What the supervisor starts instead of the ordinary worker; see other_daemon.py."""
    return serve(control, start, lambda _: [WrappedRuntime(wrap)])
