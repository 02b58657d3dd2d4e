"""The few bytes of protobuf that the hot path reads and writes by itself.

A serialized ModelInferRequest is taken apart without copying its tensors: `raw_input_contents`
stay where they are in the gRPC message, and what is left, the head, is small and the same from
request to request, so that its meaning can be looked up (template.py). Everything else goes
through the protobuf library. The encoding: https://protobuf.dev/programming-guides/encoding/
"""

from trtserve.errors import InvalidRequest

Span = tuple[int, int]
"""Where something lies in a message: first byte, and the byte after the last."""

# Tags: field number << 3 | wire type 2 (length-delimited).
_ID = 3 << 3 | 2
_RAW_INPUT = 7 << 3 | 2
_RESPONSE_ID = b"\x1a"
_RAW_OUTPUT = b"\x32"
_STREAM_RESPONSE = b"\x12"
_BATCH_ITEM = b"\x0a"
_ITEM_RESPONSE = b"\x0a"

MAX_FIELDS = 1024
"""Fields on the top level of a request: inputs, outputs, raw contents, parameters. Without a
limit a message of tiny fields would keep this process busy, and grow a hundredfold in memory."""

MAX_BATCH_ITEMS = 16_384
"""Requests of one InferBatch."""

_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5


def varint(value: int) -> bytes:
    """A non-negative integer as a varint."""
    if value < 0x80:
        return bytes((value,))
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _read_varint(data: bytes, position: int, end: int) -> tuple[int, int]:
    """The varint at a position, and the position after it."""
    value = shift = 0
    while position < end and shift < 64:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
    raise InvalidRequest("the message is cut off or is not a protobuf message")


def split_request(data: bytes, start: int, end: int) -> tuple[bytes, bytes, list[Span]]:
    """Take a serialized ModelInferRequest apart: (head, id, raw_input_contents).

    The head is the message without its id and its raw contents, still serialized. Raises
    InvalidRequest for bytes that are no message.
    """
    head: list[bytes] = []
    raws: list[Span] = []
    request_id = b""
    position = run = start
    for _ in range(MAX_FIELDS):
        if position >= end:
            break
        field = position
        tag = data[position]
        position += 1
        if tag >= 0x80:
            tag, position = _read_varint(data, field, end)
        kind = tag & 7
        if kind == _LENGTH:
            length = data[position] if position < end else 0x80
            if length < 0x80:
                position += 1
            else:
                length, position = _read_varint(data, position, end)
            if tag in (_RAW_INPUT, _ID):
                if run < field:
                    head.append(data[run:field])
                if tag == _ID:
                    request_id = data[position : position + length]
                else:
                    raws.append((position, position + length))
                run = position + length
            position += length
        elif kind == _VARINT:
            _, position = _read_varint(data, position, end)
        elif kind == _FIXED64:
            position += 8
        elif kind == _FIXED32:
            position += 4
        else:
            raise InvalidRequest("the message is not a protobuf message")
    if position < end:
        raise InvalidRequest(f"the request has more than {MAX_FIELDS} fields")
    if position != end:
        raise InvalidRequest("the message is cut off or is not a protobuf message")
    if run < end:
        head.append(data[run:end])
    if not request_id.isascii():
        _check_text(request_id)
    return (head[0] if len(head) == 1 else b"".join(head)), request_id, raws


def _check_text(request_id: bytes) -> None:
    """The id goes into the answer as it is, which no client could read if it were not text."""
    try:
        request_id.decode()
    except UnicodeDecodeError:
        raise InvalidRequest("the request's id is not UTF-8") from None


def split_batch(data: bytes) -> list[Span]:
    """Where the requests of a serialized InferBatchRequest lie. Raises InvalidRequest."""
    items: list[Span] = []
    position, end = 0, len(data)
    while position < end:
        tag, position = _read_varint(data, position, end)
        if tag != _BATCH_ITEM[0]:
            raise InvalidRequest(f"InferBatchRequest has no field {tag >> 3}")
        length, position = _read_varint(data, position, end)
        if position + length > end:
            raise InvalidRequest("the message is cut off")
        if len(items) >= MAX_BATCH_ITEMS:
            raise InvalidRequest(f"the call has more than {MAX_BATCH_ITEMS} requests")
        items.append((position, position + length))
        position += length
    return items


def response_parts(
    head: bytes, request_id: bytes, parameters: bytes, raws: list[memoryview]
) -> list[bytes | memoryview]:
    """The pieces of a serialized ModelInferResponse, to be joined.

    `head` holds the model and the outputs' descriptions, serialized; `parameters` is the
    serialized rest of it that holds parameters.
    """
    parts: list[bytes | memoryview] = [head]
    if request_id:
        parts += (_RESPONSE_ID, varint(len(request_id)), request_id)
    if parameters:
        parts.append(parameters)
    for raw in raws:
        parts += (_RAW_OUTPUT, varint(len(raw)), raw)
    return parts


def stream_frame(size: int) -> bytes:
    """What turns a ModelInferResponse of `size` bytes into a ModelStreamInferResponse."""
    return _STREAM_RESPONSE + varint(size)


def item_frame(size: int) -> bytes:
    """What turns a ModelInferResponse of `size` bytes into an item of an InferBatchResponse."""
    inner = _ITEM_RESPONSE + varint(size)
    return _BATCH_ITEM + varint(len(inner) + size) + inner


def batch_item(item: bytes) -> bytes:
    """A serialized InferBatchItem as an item of an InferBatchResponse."""
    return _BATCH_ITEM + varint(len(item)) + item
