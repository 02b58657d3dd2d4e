from trtserve.proto import grpc_service_pb2 as _grpc_service_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class InferBatchRequest(_message.Message):
    __slots__ = ("requests",)
    REQUESTS_FIELD_NUMBER: _ClassVar[int]
    requests: _containers.RepeatedCompositeFieldContainer[_grpc_service_pb2.ModelInferRequest]
    def __init__(self, requests: _Optional[_Iterable[_Union[_grpc_service_pb2.ModelInferRequest, _Mapping]]] = ...) -> None: ...

class InferBatchResponse(_message.Message):
    __slots__ = ("items",)
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    items: _containers.RepeatedCompositeFieldContainer[InferBatchItem]
    def __init__(self, items: _Optional[_Iterable[_Union[InferBatchItem, _Mapping]]] = ...) -> None: ...

class InferBatchItem(_message.Message):
    __slots__ = ("response", "error")
    RESPONSE_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    response: _grpc_service_pb2.ModelInferResponse
    error: InferError
    def __init__(self, response: _Optional[_Union[_grpc_service_pb2.ModelInferResponse, _Mapping]] = ..., error: _Optional[_Union[InferError, _Mapping]] = ...) -> None: ...

class InferError(_message.Message):
    __slots__ = ("code", "message", "retry_after_ms")
    CODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    RETRY_AFTER_MS_FIELD_NUMBER: _ClassVar[int]
    code: int
    message: str
    retry_after_ms: int
    def __init__(self, code: _Optional[int] = ..., message: _Optional[str] = ..., retry_after_ms: _Optional[int] = ...) -> None: ...

class TimelineRequest(_message.Message):
    __slots__ = ("seconds",)
    SECONDS_FIELD_NUMBER: _ClassVar[int]
    seconds: float
    def __init__(self, seconds: _Optional[float] = ...) -> None: ...

class TimelineReply(_message.Message):
    __slots__ = ("now_ns", "batches", "missed")
    NOW_NS_FIELD_NUMBER: _ClassVar[int]
    BATCHES_FIELD_NUMBER: _ClassVar[int]
    MISSED_FIELD_NUMBER: _ClassVar[int]
    now_ns: int
    batches: _containers.RepeatedCompositeFieldContainer[TracedBatch]
    missed: int
    def __init__(self, now_ns: _Optional[int] = ..., batches: _Optional[_Iterable[_Union[TracedBatch, _Mapping]]] = ..., missed: _Optional[int] = ...) -> None: ...

class TracedBatch(_message.Message):
    __slots__ = ("device", "id", "model", "version", "variant", "bucket", "lane", "rows", "padded_rows", "requests", "started_ns", "began_ns", "stage_ns", "h2d_ns", "compute_ns", "d2h_ns", "error")
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    VARIANT_FIELD_NUMBER: _ClassVar[int]
    BUCKET_FIELD_NUMBER: _ClassVar[int]
    LANE_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    PADDED_ROWS_FIELD_NUMBER: _ClassVar[int]
    REQUESTS_FIELD_NUMBER: _ClassVar[int]
    STARTED_NS_FIELD_NUMBER: _ClassVar[int]
    BEGAN_NS_FIELD_NUMBER: _ClassVar[int]
    STAGE_NS_FIELD_NUMBER: _ClassVar[int]
    H2D_NS_FIELD_NUMBER: _ClassVar[int]
    COMPUTE_NS_FIELD_NUMBER: _ClassVar[int]
    D2H_NS_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    device: str
    id: int
    model: str
    version: int
    variant: str
    bucket: _containers.RepeatedCompositeFieldContainer[TracedShape]
    lane: int
    rows: int
    padded_rows: int
    requests: _containers.RepeatedCompositeFieldContainer[TracedRequest]
    started_ns: int
    began_ns: int
    stage_ns: int
    h2d_ns: int
    compute_ns: int
    d2h_ns: int
    error: str
    def __init__(self, device: _Optional[str] = ..., id: _Optional[int] = ..., model: _Optional[str] = ..., version: _Optional[int] = ..., variant: _Optional[str] = ..., bucket: _Optional[_Iterable[_Union[TracedShape, _Mapping]]] = ..., lane: _Optional[int] = ..., rows: _Optional[int] = ..., padded_rows: _Optional[int] = ..., requests: _Optional[_Iterable[_Union[TracedRequest, _Mapping]]] = ..., started_ns: _Optional[int] = ..., began_ns: _Optional[int] = ..., stage_ns: _Optional[int] = ..., h2d_ns: _Optional[int] = ..., compute_ns: _Optional[int] = ..., d2h_ns: _Optional[int] = ..., error: _Optional[str] = ...) -> None: ...

class TracedShape(_message.Message):
    __slots__ = ("dims",)
    DIMS_FIELD_NUMBER: _ClassVar[int]
    dims: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, dims: _Optional[_Iterable[int]] = ...) -> None: ...

class TracedRequest(_message.Message):
    __slots__ = ("front_end", "id", "arrived_ns")
    FRONT_END_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    ARRIVED_NS_FIELD_NUMBER: _ClassVar[int]
    front_end: str
    id: int
    arrived_ns: int
    def __init__(self, front_end: _Optional[str] = ..., id: _Optional[int] = ..., arrived_ns: _Optional[int] = ...) -> None: ...
