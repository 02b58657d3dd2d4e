"""gRPC's standard health service, whose watches end when the server stops."""

import asyncio
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2


class Health(health.aio.HealthServicer):  # type: ignore[misc]  # untyped
    """A watch never ends by itself, and gRPC waits for every call: without `stop_watches` one
    watching client would hold the server's end up for all of the drain timeout."""

    def __init__(self) -> None:
        super().__init__()
        self._watches: set[asyncio.Task[None]] = set()
        self._stopping = False

    def stop_watches(self) -> None:
        """End every watch with UNAVAILABLE, at once."""
        self._stopping = True
        for watch in self._watches:
            watch.cancel()

    async def Watch(  # noqa: N802 - gRPC's name
        self, request: health_pb2.HealthCheckRequest, context: Any
    ) -> None:
        """Say the state, and say it again whenever it changes."""
        watch = asyncio.ensure_future(super().Watch(request, context))
        self._watches.add(watch)
        try:
            await watch
        except asyncio.CancelledError:
            if not self._stopping or context.cancelled():
                raise
            await context.abort(
                grpc.StatusCode.UNAVAILABLE, "the server is shutting down"
            )
        finally:
            self._watches.discard(watch)
