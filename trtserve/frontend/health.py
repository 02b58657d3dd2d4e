"""gRPC's standard health service.

gRPC's own implementation tells all who watch one name while it holds that name's lock: somebody
who does not take his answers keeps every later state from everybody, and from Check too. Here a
state is one assignment, and each watch waits for its own client only.
"""

import asyncio
from typing import Any

import grpc
from grpc_health.v1 import health_pb2

from trtserve.errors import ModelNotFound, Unavailable

SERVICE = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name

_Status = health_pb2.HealthCheckResponse


class Health:
    """The states of the services by their names; "" is the whole server. On one event loop."""

    def __init__(self) -> None:
        self._states: dict[str, int] = {"": _Status.NOT_SERVING}
        self._changed = asyncio.Event()
        self._stopping = False

    def handler(self) -> grpc.GenericRpcHandler:
        """Everything, for grpc.aio.Server.add_generic_rpc_handlers."""
        parse = health_pb2.HealthCheckRequest.FromString
        return grpc.method_handlers_generic_handler(SERVICE, {
            "Check": grpc.unary_unary_rpc_method_handler(
                self.check, request_deserializer=parse, response_serializer=_serialize
            ),
            "Watch": grpc.unary_stream_rpc_method_handler(
                self.watch, request_deserializer=parse, response_serializer=_serialize
            ),
        })

    def set(self, service: str, serving: bool) -> None:
        """A service's state, for those who ask and those who watch."""
        self._states[service] = _Status.SERVING if serving else _Status.NOT_SERVING
        self._wake()

    def stop_watches(self) -> None:
        """End every watch with UNAVAILABLE: it never ends by itself, and gRPC waits for every
        call, so that one watching client would hold up the server's end."""
        self._stopping = True
        self._wake()

    async def check(self, request: health_pb2.HealthCheckRequest, _: Any) -> Any:
        """HealthCheckResponse with the state now. Raises ModelNotFound, as NOT_FOUND, for a
        service that is not here."""
        state = self._states.get(request.service)
        if state is None:
            raise ModelNotFound("no such service")
        return _Status(status=state)

    async def watch(self, request: health_pb2.HealthCheckRequest, context: Any) -> None:
        """Say the state, and say it again whenever it changes."""
        told: int | None = None
        while not self._stopping:
            changed = self._changed
            state = self._states.get(request.service, _Status.SERVICE_UNKNOWN)
            if state != told:
                told = state
                await context.write(_Status(status=state))
            else:
                await changed.wait()
        raise Unavailable("the server is shutting down")

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


def _serialize(message: Any) -> bytes:
    return bytes(message.SerializeToString())
