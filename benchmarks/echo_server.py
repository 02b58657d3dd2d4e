"""The yardstick: the least that a Python gRPC server can do with the same messages.

grpc.aio on uvloop, one process. It parses each ModelInferRequest with the protobuf library,
answers with a ModelInferResponse that holds the same bytes, and does nothing else: no routing,
no batching, no second process, no engine.

    python -m benchmarks.echo_server PORT
"""

import asyncio
import sys
from typing import Any

import grpc
import uvloop

from trtserve.proto import grpc_service_pb2 as pb

MAX_MESSAGE_BYTES = 128 << 20


def answer(request: Any) -> Any:
    """The response that repeats the request's first input."""
    tensor = request.inputs[0]
    return pb.ModelInferResponse(
        model_name=request.model_name,
        model_version="1",
        id=request.id,
        outputs=[pb.ModelInferResponse.InferOutputTensor(
            name="y", datatype=tensor.datatype, shape=tensor.shape
        )],
        raw_output_contents=[request.raw_input_contents[0]],
    )


async def infer(request: Any, context: Any) -> Any:
    """ModelInfer."""
    return answer(request)


async def stream_infer(requests: Any, context: Any) -> Any:
    """ModelStreamInfer."""
    async for request in requests:
        yield pb.ModelStreamInferResponse(infer_response=answer(request))


async def metadata(request: Any, context: Any) -> Any:
    """ModelMetadata, which load generators ask for."""
    tensor = pb.ModelMetadataResponse.TensorMetadata
    width = {"identity": 16}.get(request.name, -1)
    return pb.ModelMetadataResponse(
        name=request.name, versions=["1"], platform="echo",
        inputs=[tensor(name="x", datatype="FP32", shape=[-1, width])],
        outputs=[tensor(name="y", datatype="FP32", shape=[-1, width])],
    )


async def config(request: Any, context: Any) -> Any:
    """ModelConfig."""
    answer = pb.ModelConfigResponse()
    answer.config.name = request.name
    answer.config.max_batch_size = 32
    width = {"identity": 16}.get(request.name, -1)
    answer.config.input.add(name="x", data_type=11, dims=[width])
    answer.config.output.add(name="y", data_type=11, dims=[width])
    return answer


async def serve(port: int) -> None:
    """Serve until killed."""
    server = grpc.aio.server(options=(
        ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
        ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ))

    def unary(handler: Any, request: Any) -> Any:
        return grpc.unary_unary_rpc_method_handler(
            handler, request_deserializer=request.FromString,
            response_serializer=lambda message: message.SerializeToString(),
        )

    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(
        "inference.GRPCInferenceService",
        {
            "ModelInfer": unary(infer, pb.ModelInferRequest),
            "ModelMetadata": unary(metadata, pb.ModelMetadataRequest),
            "ModelConfig": unary(config, pb.ModelConfigRequest),
            "ServerReady": unary(_ready, pb.ServerReadyRequest),
            "ServerLive": unary(_ready, pb.ServerLiveRequest),
            "ModelReady": unary(_ready, pb.ModelReadyRequest),
            "ServerMetadata": unary(_server, pb.ServerMetadataRequest),
            "ModelStatistics": unary(_statistics, pb.ModelStatisticsRequest),
            "ModelStreamInfer": grpc.stream_stream_rpc_method_handler(
                stream_infer, request_deserializer=pb.ModelInferRequest.FromString,
                response_serializer=lambda message: message.SerializeToString(),
            ),
        },
    ),))
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    await server.wait_for_termination()


async def _ready(request: Any, context: Any) -> Any:
    if type(request) is pb.ModelReadyRequest:
        return pb.ModelReadyResponse(ready=True)
    if type(request) is pb.ServerLiveRequest:
        return pb.ServerLiveResponse(live=True)
    return pb.ServerReadyResponse(ready=True)


async def _server(request: Any, context: Any) -> Any:
    return pb.ServerMetadataResponse(name="echo", version="1")


async def _statistics(request: Any, context: Any) -> Any:
    return pb.ModelStatisticsResponse(
        model_stats=[pb.ModelStatistics(name=request.name, version="1")]
    )


if __name__ == "__main__":
    uvloop.install()
    asyncio.run(serve(int(sys.argv[1])))
