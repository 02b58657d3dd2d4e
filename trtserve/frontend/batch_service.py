"""What the Open Inference Protocol lacks: the service trtserve.v1.InferenceService."""

import asyncio

import grpc

from trtserve.errors import RequestError
from trtserve.frontend import wire
from trtserve.frontend.call import NO_CALL, Call
from trtserve.frontend.dispatch import Dispatcher
from trtserve.frontend.inference_service import Context, MakeCall, deadline_of, walled
from trtserve.frontend.reply import BatchReply

SERVICE = "trtserve.v1.InferenceService"

_INFER_BATCH = f"{SERVICE}/InferBatch"


class BatchService:
    """The handlers."""

    def __init__(self, dispatcher: Dispatcher, *, make_call: MakeCall = Call) -> None:
        self._dispatcher = dispatcher
        self._make_call = make_call

    def handler(self) -> grpc.GenericRpcHandler:
        """Everything, for grpc.aio.Server.add_generic_rpc_handlers."""
        return grpc.method_handlers_generic_handler(SERVICE, {
            "InferBatch": grpc.unary_unary_rpc_method_handler(walled(self.infer_batch)),
        })

    async def infer_batch(self, data: bytes, context: Context) -> bytes:
        """Start every item, wait for all; each fails or succeeds by itself."""
        call = NO_CALL
        try:
            call = self._make_call(context, _INFER_BATCH)
            items = wire.split_batch(data)
        except RequestError as error:
            if call is not NO_CALL:  # else it has been noted
                self._dispatcher.refusals.note(error, call=call)
            raise
        reply = BatchReply(asyncio.get_running_loop(), len(items), call)
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
