"""What stands around handlers: the gate, and a wall that lets no unforeseen error out.

Whoever has to prove who he is does so before his message is read: a server that takes messages of
100 MiB would else keep one for each call of somebody who may call nothing. So the wrapped calls
are streams of requests to gRPC, which reads a message when it is asked to; on the wire that is
the same.

ModelInfer, ModelStreamInfer and InferBatch ask the gate by themselves too, for each request,
since one call may hold requests for several models. Where nothing guards them they are not
wrapped, and cost nothing more.
"""

import asyncio
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from trtserve.errors import DeadlineExceeded, InvalidRequest, Overloaded, RequestError
from trtserve.frontend.gate import Gate, Visit
from trtserve.frontend.inference_service import Context, abort, abort_unforeseen
from trtserve.security.access import EVERY_MODEL, Kind

KINDS = {
    "ModelInfer": Kind.INFER,
    "ModelStreamInfer": Kind.INFER,
    "InferBatch": Kind.INFER,
    "RepositoryModelLoad": Kind.CONTROL,
    "RepositoryModelUnload": Kind.CONTROL,
    "Timeline": Kind.DEBUG,
}
"""All other calls read."""

_LISTS = {"RepositoryIndex": "models", "ModelStatistics": "model_stats"}
"""Calls whose answers list models, and the answer's field: only those that the caller may see."""

_OF_ONE_MODEL = ("ModelMetadata", "ModelConfig")
"""Calls that mean one model, whatever they name."""

_MUST_EXIST = (*_OF_ONE_MODEL, "ModelStatistics")
"""Calls whose own error for an unknown model lists the models that there are."""

OPEN_CALLS = 1024
"""Calls at once that nobody is asked for: each watch of the health service takes 20 KB."""

OPEN_READS = 16
"""How many of their messages are read at once, and ..."""

OPEN_READ_SECONDS = 5.0
"""... how long each may take: those that mean well come with the call."""


def kind_of(method: str) -> Kind:
    """What a call does, by its full name."""
    return KINDS.get(method.rpartition("/")[2], Kind.READ)


class Guarded(grpc.GenericRpcHandler):  # type: ignore[misc]  # untyped
    """Another service's handlers, behind the gate where it guards their kind of call; with
    `is_open` they are for everybody."""

    def __init__(
        self, inner: grpc.GenericRpcHandler, gate: Gate, *, is_open: bool = False
    ) -> None:
        self._inner = inner
        self._gate = gate
        self._limits = OpenLimits() if is_open else None
        self._made: dict[str, grpc.RpcMethodHandler] = {}

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        """gRPC asks for a call's handler."""
        made = self._made.get(details.method)
        if made is not None:
            return made
        handler = self._inner.service(details)
        if handler is not None:  # else anybody's names of methods would be kept
            handler = self._made[details.method] = self._wrapped(details.method, handler)
        return handler

    def _wrapped(self, method: str, handler: grpc.RpcMethodHandler) -> grpc.RpcMethodHandler:
        kind = kind_of(method)
        everything = self._gate.guards_everything
        if kind is Kind.INFER and not everything:
            return handler
        asked = self._limits is None and (everything or kind is not Kind.READ)
        call = _Wrapped(
            self._gate if asked else None, kind, method.lstrip("/"), handler.request_deserializer,
            self._limits,
        )
        if handler.request_streaming:
            # Those that infer have read nothing before they ask by themselves.
            return handler if kind is Kind.INFER else grpc.stream_stream_rpc_method_handler(
                call.stream(handler.stream_stream), handler.request_deserializer,
                handler.response_serializer,
            )
        if handler.unary_unary is not None:
            return grpc.stream_unary_rpc_method_handler(
                call.unary(handler.unary_unary), response_serializer=handler.response_serializer,
            )
        return grpc.stream_stream_rpc_method_handler(
            call.unary(handler.unary_stream), response_serializer=handler.response_serializer,
        )


class OpenLimits:
    """What callers who prove nothing may take of one service."""

    def __init__(self, seconds: float = OPEN_READ_SECONDS) -> None:
        self._seconds = seconds
        self._calls = 0
        self._reads = asyncio.Semaphore(OPEN_READS)

    @contextmanager
    def call(self) -> Iterator[None]:
        """Around a call. Raises Overloaded."""
        if self._calls >= OPEN_CALLS:
            raise Overloaded(f"{OPEN_CALLS} calls like this one are open")
        self._calls += 1
        try:
            yield
        finally:
            self._calls -= 1

    async def read(self, context: Context) -> Any:
        """A call's message. Raises DeadlineExceeded."""
        async with self._reads:
            try:
                return await asyncio.wait_for(context.read(), self._seconds)
            except TimeoutError as error:
                raise DeadlineExceeded(
                    f"the message did not come within {self._seconds:g} seconds"
                ) from error


class _Discreet:
    """A call's context for a caller of some models only: that one of these is not there is said
    without the names of those that are."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)

    async def abort(self, code: grpc.StatusCode, details: str, trailers: Any = ()) -> None:
        """End the call."""
        if code is grpc.StatusCode.NOT_FOUND:
            details = "there is no such model, or no such version of it"
        await self._context.abort(code, details, trailers)


class _Renewing:
    """A call's context whose answers may take long: each of them asks anew for the right."""

    def __init__(self, context: Context, visit: Visit) -> None:
        self._context = context
        self._visit = visit

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)

    async def write(self, message: Any) -> None:
        """Send an answer. Raises Unauthenticated and PermissionDenied."""
        self._visit.renew()
        await self._context.write(message)


class _Wrapped:
    """One call's handler. `gate` is None where nobody is asked; `limits` are for calls that
    are open to everybody."""

    def __init__(
        self, gate: Gate | None, kind: Kind, method: str, parse: Callable[[bytes], Any] | None,
        limits: OpenLimits | None,
    ) -> None:
        self._gate = gate
        self._limits = limits
        self._kind = kind
        self._method = method
        self._name = method.rpartition("/")[2]
        self._parse = parse

    def unary(self, function: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        """For handlers that take one request, and return the answer or write them."""

        async def handle(_: Any, context: Context) -> Any:
            try:
                with nullcontext() if self._limits is None else self._limits.call():
                    visit = self._enter(context)
                    request = self._parsed(await self._message(context))
                    if visit is not None and self._kind is not Kind.INFER:
                        context = self._admitted(visit, request, context)
                    answer = await function(request, context)
                return answer if visit is None else self._visible(visit, answer)
            except RequestError as error:
                await abort(context, error)
            except Exception as error:
                await abort_unforeseen(context, error)

        return handle

    def stream(self, function: Callable[..., AsyncIterator[Any]]) -> Callable[..., Any]:
        """For handlers that are asynchronous generators."""
        assert inspect.isasyncgenfunction(function)

        async def handle(requests: Any, context: Context) -> AsyncIterator[Any]:
            try:
                visit = self._enter(context)
                async for answer in function(requests, context):
                    if visit is not None:
                        visit.renew()
                    yield answer
            except RequestError as error:
                await abort(context, error)
            except DecodeError:
                await abort(context, InvalidRequest(f"the message is not {self._name}'s"))
            except Exception as error:
                await abort_unforeseen(context, error)

        return handle

    def _enter(self, context: Context) -> Visit | None:
        if self._gate is None:
            return None
        return self._gate.enter(context, self._kind, self._method)

    async def _message(self, context: Context) -> bytes:
        """The call's one message."""
        data = await (context.read() if self._limits is None else self._limits.read(context))
        if data is grpc.aio.EOF:
            raise InvalidRequest(f"{self._name} takes one message, and none came")
        return bytes(data)

    def _parsed(self, data: bytes) -> Any:
        """Here and not in gRPC, which would tell the client what Python says of a bad message."""
        if self._parse is None:
            return data
        try:
            return self._parse(data)
        except DecodeError as error:
            raise InvalidRequest(f"the message is not {self._name}'s request") from error

    def _admitted(self, visit: Visit, request: Any, context: Context) -> Context:
        """The context for a caller that may use the model which the request names."""
        model = getattr(request, "name", "") or getattr(request, "model_name", "")
        if model or self._name in _OF_ONE_MODEL:
            must_exist = self._name in _MUST_EXIST
            (visit.check_model if must_exist else visit.caller.check_model)(model)
        if self._kind is Kind.CONTROL and visit.caller.models != EVERY_MODEL:
            return _Discreet(context)
        return _Renewing(context, visit)

    def _visible(self, visit: Visit, answer: Any) -> Any:
        field = _LISTS.get(self._name)
        if field is not None:
            listed = getattr(answer, field)
            kept = [entry for entry in listed if visit.caller.sees(entry.name)]
            del listed[:]
            listed.extend(kept)
        return answer
