"""Each call of the client as data: where it goes, what is sent, how the answer is read.

The sync and the asyncio client differ only in how they run an Operation.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from google.protobuf import json_format

from trtserve.client import codec
from trtserve.client.errors import DeadlineExceeded, InferenceError
from trtserve.client.security import Metadata
from trtserve.client.values import Item, ModelInfo, ModelStatus, Result
from trtserve.proto import grpc_service_pb2 as pb
from trtserve.proto import trtserve_pb2

T = TypeVar("T")

OPEN_INFERENCE = "inference.GRPCInferenceService"
TRTSERVE = "trtserve.v1.InferenceService"

MAX_MESSAGE_BYTES = (1 << 31) - 1
"""The most that protobuf takes. The server's own limit is what counts."""

RETRY_BUFFER_BYTES = 64 << 20
"""gRPC only repeats requests that fit this buffer (256 KiB if nothing is said, less than an
image). It holds references to what is being sent, not copies. It is below the server's usual
limit of 128 MiB, so that a message over that limit, which gRPC also answers with
RESOURCE_EXHAUSTED, is not sent four times."""

SERVICE_CONFIG = {
    "methodConfig": [
        {
            "name": [{}],
            "retryPolicy": {
                "maxAttempts": 4,
                "initialBackoff": "0.05s",
                "maxBackoff": "1s",
                "backoffMultiplier": 3,
                "retryableStatusCodes": ["UNAVAILABLE", "RESOURCE_EXHAUSTED", "CANCELLED"],
            },
        }
    ],
    "retryThrottling": {"maxTokens": 1000, "tokenRatio": 0.1},
}
"""Up to 4 attempts in all where the server is restarting or overloaded, never beyond the
deadline. A server's `grpc-retry-pushback-ms` trailer replaces the backoff, and a negative one
ends the attempts. CANCELLED comes from gRPC itself, for a call that reaches a server just as it
stops (errors.py). Inference changes nothing in the server, so repeating it is safe. The throttling
is for overload that lasts: each failed attempt takes a token, each success gives a tenth of one
back, and below 500 nothing is tried again."""


def channel_options(*, retry: bool) -> list[tuple[str, Any]]:
    """The options of a channel."""
    options: list[tuple[str, Any]] = [
        ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
        ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
        # gRPC may wait two minutes between attempts to connect; a daemon restarts in seconds.
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 2000),
        ("grpc.enable_retries", int(retry)),
    ]
    if retry:
        options += [
            ("grpc.service_config", json.dumps(SERVICE_CONFIG)),
            ("grpc.per_rpc_retry_buffer_size", RETRY_BUFFER_BYTES),
        ]
    return options


@dataclass(frozen=True, slots=True)
class Operation(Generic[T]):
    """One call. `request` is a serialized message in pieces."""

    method: str
    """Such as `/inference.GRPCInferenceService/ModelInfer`."""
    request: codec.Pieces
    answer: type[Any]
    """The class of the message that comes back."""
    read: Callable[[Any], T]
    """From that message to what the caller gets."""


class Calls:
    """The multicallables of one channel, made when first used: each has a cost, and most
    clients only use one or two."""

    def __init__(self, channel: Any, metadata: Metadata = ()) -> None:
        self._channel = channel
        self._metadata = metadata or None
        self._multicallables: dict[str, Any] = {}

    def start(self, operation: Operation[Any], deadline: float | None) -> Any:
        """Run (sync) or start (asyncio) the call. `deadline` is in seconds from now.

        Raises DeadlineExceeded for one that is over: gRPC rounds up and might still answer.
        """
        if deadline is not None and deadline <= 0:
            raise DeadlineExceeded(f"the deadline, {deadline} s from now, was over before the call")
        multicallable = self._multicallables.get(operation.method)
        if multicallable is None:
            multicallable = self._multicallables[operation.method] = self._channel.unary_unary(
                operation.method,
                request_serializer=b"".join,
                response_deserializer=operation.answer.FromString,
            )
        return multicallable(operation.request, timeout=deadline, metadata=self._metadata)


def infer(item: Item) -> Operation[Result]:
    """One request. Raises InvalidArgument for an array of no known type."""
    return Operation(
        f"/{OPEN_INFERENCE}/ModelInfer", codec.encode_request(item), pb.ModelInferResponse,
        codec.decode_response,
    )


def infer_many(
    items: Sequence[Item | tuple[str, Any]],
) -> Operation[list[Result | InferenceError]]:
    """Many requests in one call."""
    encoded = codec.encode_items(
        [item if isinstance(item, Item) else Item(*item) for item in items]
    )
    request = codec.encode_batch(
        pieces for pieces in encoded if not isinstance(pieces, InferenceError)
    )
    return Operation(
        f"/{TRTSERVE}/InferBatch", request, trtserve_pb2.InferBatchResponse,
        lambda response: codec.decode_batch(encoded, response),
    )


def metadata(model: str, version: str | int) -> Operation[ModelInfo]:
    """What a model takes and gives."""
    request = pb.ModelMetadataRequest(name=model, version=str(version))
    return _open_inference(
        "ModelMetadata", request, pb.ModelMetadataResponse, codec.decode_metadata
    )


def config(model: str, version: str | int) -> Operation[dict[str, Any]]:
    """A model's whole configuration."""
    request = pb.ModelConfigRequest(name=model, version=str(version))
    return _open_inference(
        "ModelConfig", request, pb.ModelConfigResponse,
        lambda response: json_format.MessageToDict(
            response.config, preserving_proto_field_name=True
        ),
    )


def models() -> Operation[list[ModelStatus]]:
    """The models of the repository."""
    return _open_inference(
        "RepositoryIndex", pb.RepositoryIndexRequest(), pb.RepositoryIndexResponse,
        lambda response: [
            ModelStatus(m.name, m.version, m.state, m.reason) for m in response.models
        ],
    )


def load(
    model: str, configuration: str | Mapping[str, Any] | None, files: Mapping[str, bytes]
) -> Operation[None]:
    """Load a model, or load it again."""
    parameter = pb.ModelRepositoryParameter
    parameters = {
        f"file:{path}": parameter(bytes_param=content) for path, content in files.items()
    }
    if configuration is not None:
        text = configuration if isinstance(configuration, str) else json.dumps(configuration)
        parameters["config"] = parameter(string_param=text)
    request = pb.RepositoryModelLoadRequest(model_name=model, parameters=parameters)
    return _open_inference("RepositoryModelLoad", request, pb.RepositoryModelLoadResponse,
                           lambda _: None)


def unload(model: str) -> Operation[None]:
    """Unload a model."""
    request = pb.RepositoryModelUnloadRequest(model_name=model)
    return _open_inference("RepositoryModelUnload", request, pb.RepositoryModelUnloadResponse,
                           lambda _: None)


def live() -> Operation[bool]:
    """Whether the server lives."""
    return _open_inference("ServerLive", pb.ServerLiveRequest(), pb.ServerLiveResponse,
                           lambda response: bool(response.live))


def ready() -> Operation[bool]:
    """Whether every model that should serve is ready."""
    return _open_inference("ServerReady", pb.ServerReadyRequest(), pb.ServerReadyResponse,
                           lambda response: bool(response.ready))


def model_ready(model: str, version: str | int) -> Operation[bool]:
    """Whether one model is ready."""
    request = pb.ModelReadyRequest(name=model, version=str(version))
    return _open_inference("ModelReady", request, pb.ModelReadyResponse,
                           lambda response: bool(response.ready))


def _open_inference(
    method: str, request: Any, answer: type[Any], read: Callable[[Any], T]
) -> Operation[T]:
    return Operation(f"/{OPEN_INFERENCE}/{method}", [request.SerializeToString()], answer, read)
