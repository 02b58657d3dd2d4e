"""The client for ordinary code."""

from collections.abc import Generator, Mapping, Sequence
from types import TracebackType
from typing import Any, TypeVar, Unpack

import grpc

from trtserve.client import operation, timeline
from trtserve.client.errors import InferenceError, error_of_call
from trtserve.client.operation import Calls, Operation
from trtserve.client.security import NO_SECURITY, Security, open_channel
from trtserve.client.timeline import TimelinePart
from trtserve.client.values import Array, Item, ModelInfo, ModelStatus, Options, Result

T = TypeVar("T")


class Client:
    """A connection to a server; any number of threads may share it.

        with Client("127.0.0.1:8001") as client:
            result = client.infer("det", {"x": image}, deadline=1.0)

    `address` is `HOST:PORT`, or `unix:/PATH` for a Unix socket. With `retry`, calls that meet a
    restarting or overloaded server are repeated as `operation.SERVICE_CONFIG` says. `security`
    is for servers with TLS, and for those that want to know who calls. Nothing is connected
    before the first call. All calls raise InferenceError (client/errors.py).
    """

    def __init__(
        self, address: str, *, retry: bool = True, security: Security = NO_SECURITY
    ) -> None:
        self.address = address
        self._channel = open_channel(
            grpc, address, operation.channel_options(retry=retry), security
        )
        self._metadata = security.metadata
        self._calls = Calls(self._channel, self._metadata)

    def infer(
        self,
        model: str,
        inputs: Mapping[str, Array],
        *,
        deadline: float | None = None,
        **options: Unpack[Options],
    ) -> Result:
        """Run one request. `deadline` is in seconds from now, None waits without end; `options`
        are the other fields of Item."""
        return self._run(operation.infer(Item(model, inputs, **options)), deadline)

    def infer_many(
        self,
        items: Sequence[Item | tuple[str, Mapping[str, Array]]],
        *,
        deadline: float | None = None,
    ) -> list[Result | InferenceError]:
        """Run many requests, of any models and shapes, in one call.

        Answers come in the items' order. An item that fails has its error in its place and does
        not fail the others; only an error of the whole call is raised.
        """
        return self._run(operation.infer_many(items), deadline)

    def metadata(
        self, model: str, version: str | int = "", *, deadline: float | None = None
    ) -> ModelInfo:
        """What a model takes and gives."""
        return self._run(operation.metadata(model, version), deadline)

    def config(
        self, model: str, version: str | int = "", *, deadline: float | None = None
    ) -> dict[str, Any]:
        """A model's configuration in force, under the names of `config.pbtxt`."""
        return self._run(operation.config(model, version), deadline)

    def models(self, *, deadline: float | None = None) -> list[ModelStatus]:
        """The models of the server's repository, ready or not."""
        return self._run(operation.models(), deadline)

    def load(
        self,
        model: str,
        *,
        config: str | Mapping[str, Any] | None = None,
        files: Mapping[str, bytes] | None = None,
        deadline: float | None = None,
    ) -> None:
        """Load a model from the server's repository, or load it again: what served before goes on
        until the new is ready, and where it is not.

        `config` replaces its configuration: JSON, or what becomes JSON. `files` replace its files,
        by paths such as `1/model.onnx`. The operator has to allow each of these.
        """
        self._run(operation.load(model, config, files or {}), deadline)

    def unload(self, model: str, *, deadline: float | None = None) -> None:
        """Unload a model. Requests that it has are still answered."""
        self._run(operation.unload(model), deadline)

    def live(self, *, deadline: float | None = None) -> bool:
        """Whether the server lives. Raises Unavailable where nothing answers."""
        return self._run(operation.live(), deadline)

    def ready(self, *, deadline: float | None = None) -> bool:
        """Whether every model that should serve is loaded and warm."""
        return self._run(operation.ready(), deadline)

    def model_ready(
        self, model: str, version: str | int = "", *, deadline: float | None = None
    ) -> bool:
        """Whether one model is loaded and warm."""
        return self._run(operation.model_ready(model, version), deadline)

    def timeline(
        self, seconds: float, *, deadline: float | None = None
    ) -> Generator[TimelinePart, None, None]:
        """Record what the server's devices do for so many seconds, at most 60.

        Parts come several times a second until the time is over; whoever stops reading before
        ends the recording.
        """
        call = timeline.start(self._channel, seconds, deadline, self._metadata)
        try:
            for reply in call:
                yield timeline.read(reply)
        except grpc.RpcError as error:
            raise error_of_call(error, self.address) from None
        finally:
            call.cancel()

    def close(self) -> None:
        """Close the connection; calls in flight end with Cancelled. Twice is harmless."""
        self._channel.close()

    def __enter__(self) -> "Client":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _run(self, call: Operation[T], deadline: float | None) -> T:
        try:
            answer = self._calls.start(call, deadline)
        except grpc.RpcError as error:
            raise error_of_call(error, self.address) from None
        return call.read(answer)
