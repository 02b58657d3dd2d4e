"""A small real gRPC server in the test's own process: answers with what it was sent."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Event

import grpc
import pytest

from trtserve.proto import grpc_service_pb2 as pb
from trtserve.proto import trtserve_pb2

OPEN_INFERENCE = "inference.GRPCInferenceService"
TRTSERVE = "trtserve.v1.InferenceService"


class EchoServer:
    """The outputs are the inputs. Models named after a failure fail so; `requests` holds what
    came, `refusals` how many calls to refuse with a pushback before answering. The model `held`
    answers when `release` is set."""

    def __init__(self) -> None:
        self.requests: list[pb.ModelInferRequest] = []
        self.refusals = 0
        self.attempts = 0
        self.release = Event()
        self.changes: list[pb.RepositoryModelLoadRequest | pb.RepositoryModelUnloadRequest] = []

    def model_infer(self, request, context):
        self.attempts += 1
        if request.model_name == "busy" and self.attempts <= self.refusals:
            context.set_trailing_metadata((("grpc-retry-pushback-ms", "20"),))
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "too much in flight")
        if request.model_name == "missing":
            context.abort(grpc.StatusCode.NOT_FOUND, "no model 'missing'; there is 'echo'")
        if request.model_name == "held":
            self.release.wait(30)
        if request.model_name == "slow":
            context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, "too late")
        self.requests.append(request)
        return self._echo(request)

    def infer_batch(self, request, context):
        self.requests.extend(request.requests)
        response = trtserve_pb2.InferBatchResponse()
        for item in request.requests:
            answer = response.items.add()
            if item.model_name == "missing":
                answer.error.code = grpc.StatusCode.NOT_FOUND.value[0]
                answer.error.message = "no model 'missing'"
            elif item.model_name == "busy":
                answer.error.code = grpc.StatusCode.RESOURCE_EXHAUSTED.value[0]
                answer.error.message = "too much in flight"
                answer.error.retry_after_ms = 250
            else:
                answer.response.CopyFrom(self._echo(item))
        if any(item.model_name == "swallowed" for item in request.requests):
            del response.items[-1]
        return response

    def _echo(self, request):
        response = pb.ModelInferResponse(
            model_name=request.model_name,
            model_version=request.model_version or "1",
            id=request.id,
            raw_output_contents=request.raw_input_contents,
        )
        for tensor in request.inputs:
            response.outputs.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape)
        if request.parameters["receipt"].bool_param:
            response.parameters["queue_us"].int64_param = 12
            response.parameters["variant"].string_param = "model.onnx"
        return response

    def model_metadata(self, request, context):
        if request.name == "missing":
            context.abort(grpc.StatusCode.NOT_FOUND, "no model 'missing'")
        response = pb.ModelMetadataResponse(name=request.name, versions=["1", "2"], platform="echo")
        for name, datatype, shape in (("x", "FP32", [-1, 3]), ("names", "BYTES", [-1])):
            response.inputs.add(name=name, datatype=datatype, shape=shape)
        response.outputs.add(name="x", datatype="FP32", shape=[-1, 3])
        return response

    def model_config(self, request, context):
        response = pb.ModelConfigResponse()
        response.config.name = request.name
        for name, text in (("version_labels", "stable=2"), ("version_weights", "1=10,2=90")):
            response.config.parameters[name].string_value = text
        return response

    def repository_index(self, request, context):
        response = pb.RepositoryIndexResponse()
        response.models.add(name="echo", version="2", state="READY")
        response.models.add(name="broken", version="1", state="UNAVAILABLE", reason="bad file")
        return response

    def load(self, request, context):
        if request.model_name == "missing":
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, "model 'missing' is not loaded: bad")
        self.changes.append(request)
        return pb.RepositoryModelLoadResponse()

    def unload(self, request, context):
        self.changes.append(request)
        return pb.RepositoryModelUnloadResponse()

    def handlers(self):
        return {
            "ModelInfer": (self.model_infer, pb.ModelInferRequest),
            "ModelMetadata": (self.model_metadata, pb.ModelMetadataRequest),
            "ModelConfig": (self.model_config, pb.ModelConfigRequest),
            "RepositoryIndex": (self.repository_index, pb.RepositoryIndexRequest),
            "RepositoryModelLoad": (self.load, pb.RepositoryModelLoadRequest),
            "RepositoryModelUnload": (self.unload, pb.RepositoryModelUnloadRequest),
            "ServerLive": (
                lambda request, context: pb.ServerLiveResponse(live=True), pb.ServerLiveRequest,
            ),
            "ServerReady": (
                lambda request, context: pb.ServerReadyResponse(ready=False),
                pb.ServerReadyRequest,
            ),
            "ModelReady": (
                lambda request, context: pb.ModelReadyResponse(
                    ready=(request.name, request.version) == ("echo", "2")
                ),
                pb.ModelReadyRequest,
            ),
        }


@contextmanager
def running(server: EchoServer, address: str = "127.0.0.1:0") -> Iterator[str]:
    """Serve, and give the address."""

    def handler(function, request):
        return grpc.unary_unary_rpc_method_handler(
            function,
            request_deserializer=request.FromString,
            response_serializer=lambda message: message.SerializeToString(),
        )

    grpc_server = grpc.server(
        ThreadPoolExecutor(4), options=[("grpc.max_receive_message_length", 8 << 20)]
    )
    for service, handlers in (
        (OPEN_INFERENCE, server.handlers()),
        (TRTSERVE, {"InferBatch": (server.infer_batch, trtserve_pb2.InferBatchRequest)}),
    ):
        grpc_server.add_generic_rpc_handlers((
            grpc.method_handlers_generic_handler(
                service, {name: handler(*pair) for name, pair in handlers.items()}
            ),
        ))
    port = grpc_server.add_insecure_port(address)
    grpc_server.start()
    try:
        yield address if address.startswith("unix:") else f"127.0.0.1:{port}"
    finally:
        grpc_server.stop(None).wait()


@pytest.fixture
def server() -> EchoServer:
    """One for each test."""
    return EchoServer()


@pytest.fixture
def address(server: EchoServer) -> Iterator[str]:
    """Where it serves."""
    with running(server) as address:
        yield address
