"""What a call can raise: one class for each gRPC status.

InferenceError
├── InvalidArgument       the request can never succeed as it is
├── NotFound              no such model or version
├── Unimplemented         the server does not have this call
├── PermissionDenied      whoever calls may not do this
├── Unauthenticated       the server has to know who calls: a token, or a client certificate
├── Overloaded            try again after `retry_after` seconds
├── Unavailable           no server there, or nothing serves the model just now: try again
├── DeadlineExceeded      the deadline passed first
├── Cancelled             the call was cancelled
└── Internal              the server or the engine failed on this request

Any other status is a plain InferenceError with that status as its `code`.
"""

from typing import Any, ClassVar

import grpc

PUSHBACK = "grpc-retry-pushback-ms"
"""The trailer that says when to try again, in milliseconds; negative: not at all."""

_UNREACHED = ("failed to connect", "DNS resolution failed", "connections to all backends failing")
"""What gRPC's own UNAVAILABLE says where no server answered; a server's own does not."""

_SWEPT_AWAY = "CANCELLED"
"""The details with which a gRPC server that stops cancels a call that came too late for it, in
the moment before its clients hear that it stops. Calls cancelled on this side, or by trtserve
itself, say more."""

_TOO_LARGE = "larger than max"
"""What gRPC says, with RESOURCE_EXHAUSTED, about a message over a limit."""


class InferenceError(Exception):
    """A call, or one item of a call, failed.

    `code` is the name of the gRPC status, such as `NOT_FOUND`; `message` says what happened;
    `retry_after` is in seconds, or None where the server did not say.
    """

    default_code: ClassVar[str] = "UNKNOWN"

    def __init__(
        self, message: str, *, code: str | None = None, retry_after: float | None = None
    ) -> None:
        super().__init__(message)
        self.code = code or self.default_code
        self.message = message
        self.retry_after = retry_after


class InvalidArgument(InferenceError):
    """The request can never succeed as it is."""

    default_code = "INVALID_ARGUMENT"


class NotFound(InferenceError):
    """No such model or version."""

    default_code = "NOT_FOUND"


class Unimplemented(InferenceError):
    """The server does not have this call."""

    default_code = "UNIMPLEMENTED"


class PermissionDenied(InferenceError):
    """Whoever calls may not do this, or not on this way to the server."""

    default_code = "PERMISSION_DENIED"


class Unauthenticated(InferenceError):
    """The server does not know who calls, or the proof of it is wrong: see Security."""

    default_code = "UNAUTHENTICATED"


class FailedPrecondition(InferenceError):
    """A model can not be loaded or unloaded as things stand."""

    default_code = "FAILED_PRECONDITION"


class Overloaded(InferenceError):
    """Refused at the door. Try again after `retry_after` seconds."""

    default_code = "RESOURCE_EXHAUSTED"


class Unavailable(InferenceError):
    """No server answers at the address, or nothing serves the model just now."""

    default_code = "UNAVAILABLE"


class DeadlineExceeded(InferenceError):
    """The deadline passed before the answer came."""

    default_code = "DEADLINE_EXCEEDED"


class Cancelled(InferenceError):
    """The call was cancelled."""

    default_code = "CANCELLED"


class Internal(InferenceError):
    """The server or the engine failed on this request."""

    default_code = "INTERNAL"


_CLASSES = {cls.default_code: cls for cls in InferenceError.__subclasses__()}
_NAMES = {status.value[0]: status.name for status in grpc.StatusCode}


def error_of(code: str, message: str, retry_after: float | None = None) -> InferenceError:
    """The error of a gRPC status, given by its name."""
    cls = _CLASSES.get(code, InferenceError)
    return cls(message or f"the server gave no reason for {code}", code=code,
               retry_after=retry_after)


def error_of_number(number: int, message: str, retry_after_ms: int = 0) -> InferenceError:
    """The error of a gRPC status, given by its number; 0 milliseconds: not said."""
    code = _NAMES.get(number, "UNKNOWN")
    return error_of(code, message, retry_after_ms / 1000 if retry_after_ms else None)


def error_of_call(error: Any, address: str) -> InferenceError:
    """The error of a failed call: a grpc.RpcError of the sync or of the asyncio API."""
    code, details = error.code().name, error.details() or ""
    if code == "CANCELLED" and details == _SWEPT_AWAY:
        code = "UNAVAILABLE"
        details = (
            f"the server at {address} stopped before it took the call; it is safe to try again"
        )
    if code == "UNAVAILABLE" and any(words in details for words in _UNREACHED):
        details = (
            f"no server answers at {address} ({details}). Is trtserve running, and is this the "
            "gRPC address that it printed at its start?"
        )
    elif code == "RESOURCE_EXHAUSTED" and _TOO_LARGE in details:
        details += ". Send smaller requests, or raise the server's --max-message-bytes"
    return error_of(code, details, _pushback_seconds(error.trailing_metadata()))


def _pushback_seconds(trailers: Any) -> float | None:
    for key, value in trailers or ():
        if key == PUSHBACK:
            try:
                milliseconds = int(value)
            except ValueError:
                return None
            return milliseconds / 1000 if milliseconds >= 0 else None
    return None
