"""A small real gRPC server whose timelines tests write."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Event

import grpc

from trtserve.clock import NS_PER_S
from trtserve.proto import trtserve_pb2 as v1


class TimelineServer:
    """Says the `replies`, with the beginning before and the end after them. Refuses a negative
    time. A call of 60 s does not end: `left` is set when its caller has gone."""

    def __init__(self, *replies: v1.TimelineReply) -> None:
        self.replies = replies
        self.left = Event()

    def timeline(
        self, request: v1.TimelineRequest, context: grpc.ServicerContext
    ) -> Iterator[v1.TimelineReply]:
        if request.seconds < 0:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "ask for more than 0")
        context.add_callback(self.left.set)
        yield v1.TimelineReply(now_ns=NS_PER_S)
        yield from self.replies
        if request.seconds == 60:
            self.left.wait(30)
        yield v1.TimelineReply(now_ns=int((1 + request.seconds) * NS_PER_S))


@contextmanager
def running(server: TimelineServer) -> Iterator[str]:
    """Serve, and give the address."""
    grpc_server = grpc.server(ThreadPoolExecutor(4))
    grpc_server.add_generic_rpc_handlers((
        grpc.method_handlers_generic_handler("trtserve.v1.DebugService", {
            "Timeline": grpc.unary_stream_rpc_method_handler(
                server.timeline,
                request_deserializer=v1.TimelineRequest.FromString,
                response_serializer=v1.TimelineReply.SerializeToString,
            ),
        }),
    ))
    port = grpc_server.add_insecure_port("127.0.0.1:0")
    grpc_server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        grpc_server.stop(None).wait()
