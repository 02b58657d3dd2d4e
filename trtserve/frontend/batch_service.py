"""What the Open Inference Protocol lacks: the service trtserve.v1.InferenceService."""

import asyncio

import grpc

from trtserve.errors import RequestError
from trtserve.frontend import wire
from trtserve.frontend.dispatch import Dispatcher
from trtserve.frontend.inference_service import Context, abort, deadline_of
from trtserve.frontend.reply import BatchReply

SERVICE = "trtserve.v1.InferenceService"


class BatchService:
    """The handlers."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        self._dispatcher = dispatcher

    def handler(self) -> grpc.GenericRpcHandler:
        """Everything, for grpc.aio.Server.add_generic_rpc_handlers."""
        return grpc.method_handlers_generic_handler(SERVICE, {
            "InferBatch": grpc.unary_unary_rpc_method_handler(self.infer_batch),
        })

    async def infer_batch(self, data: bytes, context: Context) -> bytes:
        """Start every item, wait for all; each fails or succeeds by itself."""
        try:
            items = wire.split_batch(data)
        except RequestError as error:
            await abort(context, error)
            raise  # abort does not return
        reply = BatchReply(asyncio.get_running_loop(), len(items))
        deadline = deadline_of(context)
        start = self._dispatcher.start
        started = [start(data, item, reply, slot, deadline) for slot, item in enumerate(items)]
        try:
            return await reply.future
        except asyncio.CancelledError:
            for pending in started:
                if pending is not None:
                    self._dispatcher.cancel(pending)
            raise
