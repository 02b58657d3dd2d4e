"""A small typed client, sync and asyncio: NumPy in, NumPy out."""

from trtserve.client.aio import AsyncClient
from trtserve.client.errors import (
    Cancelled,
    DeadlineExceeded,
    FailedPrecondition,
    InferenceError,
    Internal,
    InvalidArgument,
    NotFound,
    Overloaded,
    PermissionDenied,
    Unauthenticated,
    Unavailable,
    Unimplemented,
)
from trtserve.client.security import Security
from trtserve.client.sync import Client
from trtserve.client.timeline import TimelinePart, TracedBatch, TracedRequest
from trtserve.client.values import Item, ModelInfo, ModelStatus, Result, TensorInfo

__all__ = [
    "Client",
    "AsyncClient",
    "Security",
    "Item",
    "Result",
    "ModelInfo",
    "ModelStatus",
    "TensorInfo",
    "TimelinePart",
    "TracedBatch",
    "TracedRequest",
    "InferenceError",
    "InvalidArgument",
    "NotFound",
    "Unimplemented",
    "PermissionDenied",
    "Unauthenticated",
    "Overloaded",
    "Unavailable",
    "DeadlineExceeded",
    "FailedPrecondition",
    "Cancelled",
    "Internal",
]
