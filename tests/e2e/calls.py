"""gRPC calls with messages as they are, and requests to put into them."""

from collections.abc import Sequence

import grpc
import numpy as np

from trtserve.model.tensor import datatype_of, encode
from trtserve.proto import grpc_service_pb2 as pb

INFER = "/inference.GRPCInferenceService/ModelInfer"
STREAM = "/inference.GRPCInferenceService/ModelStreamInfer"
BATCH = "/trtserve.v1.InferenceService/InferBatch"


def request(
    model: str, request_id: str = "", parameters: Sequence[tuple[str, int]] = (),
    **inputs: np.ndarray,
) -> pb.ModelInferRequest:
    """A request with raw contents."""
    message = pb.ModelInferRequest(model_name=model, id=request_id)
    for name, value in parameters:
        message.parameters[name].int64_param = value
    for name, array in inputs.items():
        message.inputs.add(name=name, datatype=datatype_of(array), shape=array.shape)
        message.raw_input_contents.append(encode(array))
    return message


def plus_request(x: np.ndarray, request_id: str = "") -> bytes:
    """A serialized request to the model `plus`."""
    return request("plus", request_id, x=x).SerializeToString()


def work_request(steps: int, timeout_us: int = 0) -> bytes:
    """A serialized request to the model `work` that takes so many steps."""
    message = request(
        "work", x=np.zeros(16, np.float32), steps=np.array([steps]),
        parameters=(("timeout", timeout_us),) if timeout_us else (),
    )
    return message.SerializeToString()


def floats(response: pb.ModelInferResponse) -> np.ndarray:
    """The first output of an answer, an FP32 one."""
    return np.frombuffer(response.raw_output_contents[0], np.float32).reshape(
        response.outputs[0].shape
    )


def infer(channel: grpc.Channel | grpc.aio.Channel) -> grpc.UnaryUnaryMultiCallable:
    """ModelInfer with bytes in; answers are parsed."""
    return channel.unary_unary(INFER, response_deserializer=pb.ModelInferResponse.FromString)


def stream(channel: grpc.Channel | grpc.aio.Channel) -> grpc.StreamStreamMultiCallable:
    """ModelStreamInfer with bytes in; answers are parsed."""
    return channel.stream_stream(
        STREAM, response_deserializer=pb.ModelStreamInferResponse.FromString
    )


def error_of(call: grpc.Call) -> tuple[str, str]:
    """The status and the message of a call that must fail."""
    error = call.exception()
    assert error is not None, "the call succeeded"
    return error.code().name, error.details()
