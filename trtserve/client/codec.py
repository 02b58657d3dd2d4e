"""The wire work, once for both clients: arrays to request bytes, answers to arrays.

A request's small part is a protobuf message. Its tensors are not put into the message: that
would copy each one three times before gRPC sees it. A serialized protobuf message is the
concatenation of its fields, so the tensors follow the message as `raw_input_contents` fields
made by hand, and one join copies them from the arrays to the wire:

    ModelInferRequest without tensors | 0x3a length tensor 0 | 0x3a length tensor 1 | ...

and in an InferBatchRequest each of these is a field again: 0x0a length request.
"""

from collections.abc import Iterable, Sequence
from math import prod
from typing import Any, TypeAlias

import numpy as np

from trtserve.client.errors import InferenceError, Internal, InvalidArgument, error_of_number
from trtserve.client.values import Array, Item, ModelInfo, Parameter, Result, TensorInfo
from trtserve.errors import InvalidRequest
from trtserve.model.tensor import (
    DATATYPES,
    count_bytes_elements,
    datatype_of,
    decode,
    encode,
)
from trtserve.proto import grpc_service_pb2 as pb
from trtserve.proto import trtserve_pb2

Pieces: TypeAlias = list[bytes | memoryview]
"""A serialized message in pieces, to be joined. Views stay valid as they hold their arrays."""

_RAW_INPUT_CONTENTS = b"\x3a"
"""Field 7 of ModelInferRequest, length-delimited: 7 << 3 | 2."""

_REQUESTS = b"\x0a"
"""Field 1 of InferBatchRequest, length-delimited: 1 << 3 | 2."""


def encode_request(item: Item) -> Pieces:
    """A serialized ModelInferRequest.

    Raises InvalidArgument for what no message can say: an array of a type that the protocol
    lacks, a priority below 0.
    """
    tensors: Pieces = []
    try:
        request = _request_without_tensors(item)
        for name, value in item.inputs.items():
            array = np.asarray(value)
            datatype, data = _encode_tensor(name, array)
            request.inputs.add(name=name, datatype=datatype, shape=array.shape)
            tensors += (_RAW_INPUT_CONTENTS, _varint(len(data)), data)
    except (TypeError, ValueError) as error:
        raise InvalidArgument(f"the request for {item.model!r} can not be sent: {error}") from None
    return [request.SerializeToString(), *tensors]


def _request_without_tensors(item: Item) -> pb.ModelInferRequest:
    request = pb.ModelInferRequest(
        model_name=item.model, model_version=str(item.version), id=item.request_id
    )
    if item.receipt:
        request.parameters["receipt"].bool_param = True
    if item.priority is not None:
        request.parameters["priority"].uint64_param = item.priority
    if item.timeout_us is not None:
        request.parameters["timeout"].int64_param = item.timeout_us
    for name in item.outputs:
        request.outputs.add(name=name)
    return request


def encode_batch(requests: Iterable[Pieces]) -> Pieces:
    """A serialized InferBatchRequest."""
    pieces: Pieces = []
    for request in requests:
        pieces += (_REQUESTS, _varint(sum(map(len, request))))
        pieces += request
    return pieces


def encode_items(items: Sequence[Item]) -> list[Pieces | InferenceError]:
    """Each item as a serialized request, or the error that keeps it from being sent."""
    encoded: list[Pieces | InferenceError] = []
    for item in items:
        try:
            encoded.append(encode_request(item))
        except InferenceError as error:
            encoded.append(error)
    return encoded


def _encode_tensor(name: str, array: Array) -> tuple[str, bytes | memoryview]:
    """The datatype's name, and the wire bytes: a view of the array where it is laid out so."""
    try:
        datatype = datatype_of(array)
    except InvalidRequest as error:
        raise InvalidArgument(f"input '{name}': {error}") from None
    if datatype == "BYTES":
        for element in array.reshape(-1).tolist():
            if not isinstance(element, str | bytes | bytearray | memoryview):
                raise InvalidArgument(
                    f"input '{name}' is an array of objects with a {type(element).__name__} in "
                    "it; give bytes or str, or convert it with astype"
                )
        return datatype, encode(array)
    # The exact dtype also turns big-endian arrays over. Bytes are viewed as uint8 because
    # memoryview does not know BF16.
    plain = np.ascontiguousarray(array, DATATYPES[datatype].numpy)
    return datatype, plain.reshape(-1).view(np.uint8).data


def _varint(value: int) -> bytes:
    """Protobuf's encoding of lengths: 7 bits a byte, the lowest first."""
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def decode_response(response: pb.ModelInferResponse) -> Result:
    """The outputs as arrays. Raises Internal where the answer contradicts itself."""
    raw = response.raw_output_contents
    if len(raw) != len(response.outputs):
        raise Internal(
            f"the answer of {response.model_name} has {len(response.outputs)} outputs and "
            f"{len(raw)} raw contents; only raw contents are understood"
        )
    outputs = {
        output.name: _decode_output(response.model_name, output, data)
        for output, data in zip(response.outputs, raw, strict=True)
    }
    return Result(
        outputs,
        model=response.model_name,
        version=response.model_version,
        id=response.id,
        receipt=_parameters(response.parameters) or None,
    )


def _decode_output(model: str, output: Any, data: bytes) -> Array:
    shape = tuple(output.shape)
    try:
        if output.datatype == "BYTES" and count_bytes_elements(data) != prod(shape):
            raise ValueError("lengths that do not add up")
        return decode(output.datatype, shape, data)
    except (KeyError, ValueError):
        raise Internal(
            f"output '{output.name}' of {model} came as {len(data)} bytes, which are no "
            f"{output.datatype}{list(shape)}"
        ) from None


def decode_batch(
    encoded: Sequence[Pieces | InferenceError], response: trtserve_pb2.InferBatchResponse
) -> list[Result | InferenceError]:
    """Results in the items' order; an item that could not be sent has its own error there.

    Raises Internal if the server answered another number of items than were sent.
    """
    sent = sum(not isinstance(pieces, InferenceError) for pieces in encoded)
    if len(response.items) != sent:
        raise Internal(f"{sent} items were sent and {len(response.items)} answered")
    answers = iter(response.items)
    return [
        pieces if isinstance(pieces, InferenceError) else _decode_item(next(answers))
        for pieces in encoded
    ]


def _decode_item(item: trtserve_pb2.InferBatchItem) -> Result | InferenceError:
    if item.WhichOneof("result") != "response":
        return error_of_number(item.error.code, item.error.message, item.error.retry_after_ms)
    try:
        return decode_response(item.response)
    except InferenceError as error:
        return error


def decode_metadata(response: pb.ModelMetadataResponse) -> ModelInfo:
    """What a model takes and gives."""

    def infos(tensors: Any) -> tuple[TensorInfo, ...]:
        return tuple(TensorInfo(t.name, t.datatype, tuple(t.shape)) for t in tensors)

    return ModelInfo(
        name=response.name,
        versions=tuple(response.versions),
        platform=response.platform,
        inputs=infos(response.inputs),
        outputs=infos(response.outputs),
    )


def _parameters(parameters: Any) -> dict[str, Parameter]:
    """A map of InferParameter as plain values, by name (the wire has no order); those
    without a value are left out."""
    values: dict[str, Parameter] = {}
    for name, parameter in sorted(parameters.items()):
        kind = parameter.WhichOneof("parameter_choice")
        if kind is not None:
            values[name] = getattr(parameter, kind)
    return values
