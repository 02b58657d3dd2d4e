"""The client for asyncio code: the calls of Client, awaited."""

from collections.abc import AsyncGenerator, Mapping, Sequence
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


class AsyncClient:
    """A connection to a server, to be used in one event loop.

        async with AsyncClient("127.0.0.1:8001") as client:
            results = await asyncio.gather(*(client.infer("det", {"x": i}) for i in images))

    Address, retry and errors are those of Client; make it while the loop runs.
    """

    def __init__(
        self, address: str, *, retry: bool = True, security: Security = NO_SECURITY
    ) -> None:
        self.address = address
        self._channel = open_channel(
            grpc.aio, address, operation.channel_options(retry=retry), security
        )
        self._metadata = security.metadata
        self._calls = Calls(self._channel, self._metadata)

    async def infer(
        self,
        model: str,
        inputs: Mapping[str, Array],
        *,
        deadline: float | None = None,
        **options: Unpack[Options],
    ) -> Result:
        """Run one request; see Client.infer."""
        return await self._run(operation.infer(Item(model, inputs, **options)), deadline)

    async def infer_many(
        self,
        items: Sequence[Item | tuple[str, Mapping[str, Array]]],
        *,
        deadline: float | None = None,
    ) -> list[Result | InferenceError]:
        """Run many requests in one call; see Client.infer_many."""
        return await self._run(operation.infer_many(items), deadline)

    async def metadata(
        self, model: str, version: str | int = "", *, deadline: float | None = None
    ) -> ModelInfo:
        """What a model takes and gives."""
        return await self._run(operation.metadata(model, version), deadline)

    async def config(
        self, model: str, version: str | int = "", *, deadline: float | None = None
    ) -> dict[str, Any]:
        """A model's configuration in force; see Client.config."""
        return await self._run(operation.config(model, version), deadline)

    async def models(self, *, deadline: float | None = None) -> list[ModelStatus]:
        """The models of the server's repository, ready or not."""
        return await self._run(operation.models(), deadline)

    async def load(
        self,
        model: str,
        *,
        config: str | Mapping[str, Any] | None = None,
        files: Mapping[str, bytes] | None = None,
        deadline: float | None = None,
    ) -> None:
        """Load a model, or load it again; see Client.load."""
        await self._run(operation.load(model, config, files or {}), deadline)

    async def unload(self, model: str, *, deadline: float | None = None) -> None:
        """Unload a model; see Client.unload."""
        await self._run(operation.unload(model), deadline)

    async def live(self, *, deadline: float | None = None) -> bool:
        """Whether the server lives. Raises Unavailable where nothing answers."""
        return await self._run(operation.live(), deadline)

    async def ready(self, *, deadline: float | None = None) -> bool:
        """Whether every model that should serve is loaded and warm."""
        return await self._run(operation.ready(), deadline)

    async def model_ready(
        self, model: str, version: str | int = "", *, deadline: float | None = None
    ) -> bool:
        """Whether one model is loaded and warm."""
        return await self._run(operation.model_ready(model, version), deadline)

    async def timeline(
        self, seconds: float, *, deadline: float | None = None
    ) -> AsyncGenerator[TimelinePart, None]:
        """Record what the server's devices do; see Client.timeline."""
        call = timeline.start(self._channel, seconds, deadline, self._metadata)
        try:
            async for reply in call:
                yield timeline.read(reply)
        except grpc.RpcError as error:
            raise error_of_call(error, self.address) from None
        finally:
            call.cancel()

    async def close(self) -> None:
        """Close the connection; calls in flight end with Cancelled. Twice is harmless."""
        await self._channel.close(None)

    async def __aenter__(self) -> "AsyncClient":
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def _run(self, call: Operation[T], deadline: float | None) -> T:
        try:
            answer = await self._calls.start(call, deadline)
        except grpc.RpcError as error:
            raise error_of_call(error, self.address) from None
        return call.read(answer)
