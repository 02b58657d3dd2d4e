"""The Open Inference Protocol: the service inference.GRPCInferenceService.

ModelInfer and ModelStreamInfer take and give serialized messages as they are (wire.py); the
other calls use the protobuf library's messages.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import grpc

from trtserve import __version__, clock
from trtserve.clock import NS_PER_S
from trtserve.errors import ModelNotFound, NotServed, RequestError, Unavailable
from trtserve.frontend.call import Call
from trtserve.frontend.control import UNLOADED, ControlCalls
from trtserve.frontend.dispatch import Dispatcher
from trtserve.frontend.model_statistics import model_statistics
from trtserve.frontend.pending import Pending
from trtserve.frontend.reply import StreamReply, UnaryReply
from trtserve.ipc.statistics import Statistics
from trtserve.model.catalog import Catalog, Version
from trtserve.model.spec import ModelState
from trtserve.proto import grpc_service_pb2 as pb
from trtserve.proto import model_config_pb2

log = logging.getLogger(__name__)

SERVICE = "inference.GRPCInferenceService"

_INFER = f"{SERVICE}/ModelInfer"
_STREAM_INFER = f"{SERVICE}/ModelStreamInfer"

EXTENSIONS = (
    "model_configuration", "model_repository", "model_repository(unload_dependents)",
    "statistics", "schedule_policy",
)
"""What ServerMetadata says beyond the protocol's core."""

MAX_STREAM_WAITING = 1024
"""Answers that one stream may owe; beyond it, requests wait in gRPC's flow control."""

Context = Any
"""grpc.aio's servicer context, which has no types of its own."""

Handler = Callable[[Any, Context], Awaitable[Any]]

MakeCall = Callable[[Context, str], Call]
"""Makes the Call of a method's full name; where callers have to prove who they are it raises
a RequestError for those who may not infer."""


class InferenceService:
    """The handlers. `ready` says whether the front end takes work; `ask_statistics` asks
    everybody's statistics of the supervisor. `control` loads and unloads models; None: these
    calls are not served."""

    def __init__(
        self, dispatcher: Dispatcher, ready: Callable[[], bool],
        ask_statistics: Callable[[], Awaitable[Statistics]], *, make_call: MakeCall = Call,
        control: ControlCalls | None = None,
    ) -> None:
        self._control = control
        self._make_call = make_call
        self._dispatcher = dispatcher
        self._ready = ready
        self._ask_statistics = ask_statistics
        self._stopping = False
        self._reading: set[asyncio.Task[Any]] = set()

    def stop_reading(self) -> None:
        """Take no more requests from the streams that are open: each ends, with UNAVAILABLE,
        once what came is answered. Else a client that only listens would hold up the end."""
        self._stopping = True
        for task in self._reading:
            task.cancel()

    def handler(self) -> grpc.GenericRpcHandler:
        """Everything, for grpc.aio.Server.add_generic_rpc_handlers."""
        methods: dict[str, grpc.RpcMethodHandler] = {
            "ModelInfer": grpc.unary_unary_rpc_method_handler(self.model_infer),
            "ModelStreamInfer": grpc.stream_stream_rpc_method_handler(
                walled(self.model_stream_infer)
            ),
        }
        calls: dict[str, Callable[[Any], Any]] = {
            "ServerLive": self._server_live,
            "ServerReady": self._server_ready,
            "ServerMetadata": self._server_metadata,
            "ModelReady": self._model_ready,
            "ModelMetadata": self._model_metadata,
            "ModelConfig": self._model_config,
            "ModelStatistics": self._model_statistics,
            "RepositoryIndex": self._repository_index,
        }
        if self._control is not None:
            calls["RepositoryModelLoad"] = self._control.load
            calls["RepositoryModelUnload"] = self._control.unload
        service = pb.DESCRIPTOR.services_by_name["GRPCInferenceService"]
        for method in service.methods:
            if method.name in methods:
                continue
            request = getattr(pb, method.input_type.name)
            methods[method.name] = grpc.unary_unary_rpc_method_handler(
                self._answering(method.name, calls.get(method.name, _not_served(method.name))),
                request_deserializer=request.FromString,
                response_serializer=_serialize,
            )
        return grpc.method_handlers_generic_handler(SERVICE, methods)

    def _answering(self, name: str, call: Callable[[Any], Any]) -> Handler:
        """A handler that answers with what `call` returns, or with its error."""
        method = f"{SERVICE}/{name}"

        async def handle(request: Any, context: Context) -> Any:
            try:
                answer = call(request)
                return await answer if asyncio.iscoroutine(answer) else answer
            except RequestError as error:
                self._dispatcher.refusals.note(error, call=Call(context, method))
                await abort(context, error)

        return handle

    async def model_infer(self, data: bytes, context: Context) -> bytes:
        """One request, one answer."""
        pending = None
        try:
            reply = UnaryReply(asyncio.get_running_loop(), self._make_call(context, _INFER))
            pending = self._dispatcher.start(data, (0, len(data)), reply, 0, deadline_of(context))
            return await reply.future
        except RequestError as error:
            await abort(context, error)
            raise  # abort does not return
        except asyncio.CancelledError:
            if pending is not None:
                self._dispatcher.cancel(pending)
            raise
        except Exception as error:
            await abort_unforeseen(context, error)
            raise  # abort_unforeseen does not return

    async def model_stream_infer(self, _: Any, context: Context) -> None:
        """Requests in, answers out, in the order of the requests."""
        reply = StreamReply(
            asyncio.get_running_loop(), self._make_call(context, _STREAM_INFER)
        )
        writer = asyncio.ensure_future(_write_answers(reply, context))
        open_requests: set[Pending] = set()
        try:
            whole = await self._read_stream(context, reply, open_requests)
            reply.end()
            await writer
            if not whole:
                await abort(context, Unavailable("the server is shutting down"))
        finally:
            writer.cancel()
            for pending in open_requests:
                self._dispatcher.cancel(pending)

    async def _read_stream(
        self, context: Context, reply: StreamReply, open_requests: set[Pending]
    ) -> bool:
        """Start requests until the client ends the stream. False: the server is stopping."""
        task = asyncio.current_task()
        assert task is not None  # gRPC runs handlers in tasks
        deadline = deadline_of(context)
        self._reading.add(task)
        try:
            while (data := await context.read()) is not grpc.aio.EOF:
                pending = self._dispatcher.start(
                    data, (0, len(data)), reply, reply.open_slot(), deadline
                )
                if pending is not None:
                    open_requests.add(pending)
                if not reply.has_room(MAX_STREAM_WAITING):
                    await reply.below(MAX_STREAM_WAITING)
                if len(open_requests) > 2 * MAX_STREAM_WAITING:
                    open_requests -= {p for p in open_requests if p.answered}
        except asyncio.CancelledError:
            if not self._stopping or context.cancelled():
                raise
            task.uncancel()
            return False
        finally:
            self._reading.discard(task)
        return True

    # --- the calls that use messages -----------------------------------------------------

    @property
    def _catalog(self) -> Catalog:
        return self._dispatcher.templates.catalog

    def _find(self, name: str, version: str) -> Version:
        """A version that is known, ready or not, by its number or a label of it."""
        return self._catalog.find(name, version)

    def _server_live(self, _: pb.ServerLiveRequest) -> pb.ServerLiveResponse:
        return pb.ServerLiveResponse(live=True)

    def _server_ready(self, _: pb.ServerReadyRequest) -> pb.ServerReadyResponse:
        return pb.ServerReadyResponse(ready=self._ready())

    def _server_metadata(self, _: pb.ServerMetadataRequest) -> pb.ServerMetadataResponse:
        return pb.ServerMetadataResponse(
            name="trtserve", version=__version__, extensions=EXTENSIONS
        )

    def _model_ready(self, request: pb.ModelReadyRequest) -> pb.ModelReadyResponse:
        try:
            version = self._find(request.name, request.version)
        except (ModelNotFound, Unavailable):  # a label of a version that is not read yet
            return pb.ModelReadyResponse(ready=False)
        return pb.ModelReadyResponse(ready=version.state == ModelState.READY)

    def _model_metadata(self, request: pb.ModelMetadataRequest) -> pb.ModelMetadataResponse:
        spec = _spec(self._find(request.name, request.version))
        tensor = pb.ModelMetadataResponse.TensorMetadata
        return pb.ModelMetadataResponse(
            name=spec.model,
            versions=[str(number) for number in sorted(self._catalog.models[spec.model])],
            platform=spec.platform,
            inputs=[tensor(name=t.name, datatype=t.datatype, shape=t.shape) for t in spec.inputs],
            outputs=[tensor(name=t.name, datatype=t.datatype, shape=t.shape) for t in spec.outputs],
        )

    def _model_config(self, request: pb.ModelConfigRequest) -> pb.ModelConfigResponse:
        spec = _spec(self._find(request.name, request.version))
        return pb.ModelConfigResponse(config=model_config_pb2.ModelConfig.FromString(spec.config))

    async def _model_statistics(
        self, request: pb.ModelStatisticsRequest
    ) -> pb.ModelStatisticsResponse:
        if request.name:
            versions = [self._find(request.name, request.version)] if request.version else [
                version for version in self._catalog.versions() if version.model == request.name
            ]
            if not versions:
                self._find(request.name, "")
        else:
            versions = self._catalog.versions()
        return model_statistics(versions, await self._ask_statistics())

    async def _repository_index(
        self, request: pb.RepositoryIndexRequest
    ) -> pb.RepositoryIndexResponse:
        index = pb.RepositoryIndexResponse.ModelIndex
        there: list[str] = []
        if self._control is not None and not request.ready:
            there = await self._control.unloaded(self._catalog.models)
        unloaded = [
            index(name=name, state=str(ModelState.UNAVAILABLE), reason=UNLOADED)
            for name in there if name not in self._catalog.models
        ]
        return pb.RepositoryIndexResponse(models=[
            index(
                name=version.model, version=str(version.version or ""),
                state=str(version.state), reason=version.reason,
            )
            for version in self._catalog.versions()
            if version.state == ModelState.READY or not request.ready
        ] + unloaded)


def deadline_of(context: Context) -> int:
    """The call's deadline on our clock, 0 for none."""
    remaining = context.time_remaining()
    if remaining is None:
        return 0
    return clock.now_ns() + int(min(remaining, 1e9) * NS_PER_S)


async def abort(context: Context, error: RequestError) -> None:
    """End the call with an error, and with when to try again where it says so."""
    trailers: tuple[tuple[str, str], ...] = ()
    if error.retry_after_ms is not None:
        trailers = (("grpc-retry-pushback-ms", str(error.retry_after_ms)),)
    await context.abort(grpc.StatusCode[error.code], error.text, trailers)


async def abort_unforeseen(context: Context, error: Exception) -> None:
    """End the call for an error that should not be: its text may hold names and paths of ours,
    so it goes to the log, and the client hears that there is one."""
    if isinstance(error, grpc.aio.BaseError) or context.done():
        raise error  # the call has ended already
    log.error("a call failed for a reason that was not foreseen", exc_info=error)
    await abort(context, RequestError("an internal error; the server's log says more"))


def walled(handler: Handler) -> Handler:
    """A handler whose errors of any kind become answers."""

    async def handle(request: Any, context: Context) -> Any:
        try:
            return await handler(request, context)
        except RequestError as error:
            await abort(context, error)
        except Exception as error:
            await abort_unforeseen(context, error)

    return handle


async def _write_answers(reply: StreamReply, context: Context) -> None:
    while (answer := await reply.next()) is not None:
        await context.write(answer)


def _not_served(name: str) -> Callable[[Any], Any]:
    def refuse(_: Any) -> Any:
        raise NotServed(f"this server does not have {name}")

    return refuse


def _spec(version: Version) -> Any:
    if version.spec is None:
        raise Unavailable(
            f"model '{version.model}' version {version.version} is not ready: {version.reason}"
        )
    return version.spec


def _serialize(message: Any) -> bytes:
    return bytes(message.SerializeToString())
