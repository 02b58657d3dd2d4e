"""The services behind a real gRPC server on a Unix socket, with a worker that tests script."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc

from tests.frontend.stand import Stand, WorkerSide
from trtserve.frontend.batch_service import BatchService
from trtserve.frontend.inference_service import InferenceService
from trtserve.ipc.message import AnyMessage, Submit
from trtserve.ipc.statistics import Statistics
from trtserve.model.spec import VersionSpec
from trtserve.proto import grpc_service_pb2 as pb
from trtserve.proto import trtserve_pb2 as v1

SERVICE = "/inference.GRPCInferenceService/"


class Serving(Stand):
    """A stand whose messages flow by themselves, in the event loop.

    Requests are answered as they come while `answers` is set; else they wait in `held`.
    """

    def __init__(self, *specs: VersionSpec) -> None:
        super().__init__(*specs)
        self.answers = True
        self.held: list[Submit] = []
        self.others: list[AnyMessage] = []
        self.ready = True
        self.statistics = Statistics()
        self.arrived = asyncio.Event()
        self.loop = asyncio.get_running_loop()

    def _want_flush(self) -> None:
        self.loop.call_soon(self.pump)

    def watch(self, worker: WorkerSide) -> None:
        """Let the loop play the worker."""
        self.loop.add_reader(worker.channel.fileno(), self._work, worker)
        for link in self.links.values():
            self.loop.add_reader(link.channel.fileno(), self.pump)

    def unwatch(self) -> None:
        """The end."""
        for worker in self.workers:
            self.loop.remove_reader(worker.channel.fileno())
        for link in self.links.values():
            self.loop.remove_reader(link.channel.fileno())

    def _work(self, worker: WorkerSide) -> None:
        for message in worker.read():
            if not isinstance(message, Submit):
                self.others.append(message)
            elif self.answers:
                worker.next_block = 0
                worker.done(message)
            else:
                self.held.append(message)
            self.arrived.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for messages at the worker until something is so."""
        while not condition():
            self.arrived.clear()
            await self.arrived.wait()

    async def ask_statistics(self) -> Statistics:
        """What the supervisor would say."""
        return self.statistics


class Caller:
    """A gRPC client of all calls, by name."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.channel = channel

    def call(self, name: str, request: Any, **options: Any) -> Any:
        """One of the unary calls of the protocol."""
        service = pb.DESCRIPTOR.services_by_name["GRPCInferenceService"]
        method = service.methods_by_name[name]
        return self.channel.unary_unary(
            SERVICE + name,
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=getattr(pb, method.output_type.name).FromString,
        )(request, **options)

    def stream(self) -> Any:
        """A ModelStreamInfer call."""
        return self.channel.stream_stream(
            SERVICE + "ModelStreamInfer",
            request_serializer=pb.ModelInferRequest.SerializeToString,
            response_deserializer=pb.ModelStreamInferResponse.FromString,
        )()

    def batch(self, request: Any, **options: Any) -> Any:
        """An InferBatch call; bytes are sent as they are."""
        return self.channel.unary_unary(
            "/trtserve.v1.InferenceService/InferBatch",
            request_serializer=lambda message: (
                message if isinstance(message, bytes) else message.SerializeToString()
            ),
            response_deserializer=v1.InferBatchResponse.FromString,
        )(request, **options)


@asynccontextmanager
async def serving(folder: Path, *specs: VersionSpec) -> AsyncIterator[tuple[Serving, Caller]]:
    """A server, a client and a worker; checks at the end that nothing is left over."""
    stand = Serving(*specs)
    stand.watch(stand.start_worker())
    server = grpc.aio.server()
    service = InferenceService(stand.dispatcher, lambda: stand.ready, stand.ask_statistics)
    server.add_generic_rpc_handlers((
        service.handler(), BatchService(stand.dispatcher).handler(),
    ))
    address = f"unix:{folder}/s"
    server.add_insecure_port(address)
    await server.start()
    try:
        async with grpc.aio.insecure_channel(address) as channel:
            yield stand, Caller(channel)
    finally:
        await server.stop(None)
        for submit in stand.held:
            stand.workers[0].done(submit)
            stand.pump()
        stand.unwatch()
        stand.close()


def run(test: Callable[[], Awaitable[None]]) -> None:
    """Run a test's coroutine; it fails rather than hangs."""

    async def main() -> None:
        await asyncio.wait_for(test(), 30)

    asyncio.run(main())
