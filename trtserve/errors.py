"""Every error that trtserve raises, by whose doing it is and whether to try again.

TrtserveError
├── RequestError                  answers one request; has a gRPC code and a metric word
│   ├── InvalidRequest            the caller's: names what came and what fits
│   ├── ModelNotFound             the caller's: no such model or version
│   ├── NotServed                 the caller's: a call that this server does not have
│   ├── Unauthenticated           the caller's: it has to say, or to prove, who it is
│   ├── PermissionDenied          the caller's: the operator does not let it do this
│   ├── Overloaded                try again after `retry_after_ms`
│   ├── RateLimited               the caller's: it calls too often; after `retry_after_ms`
│   ├── Unavailable               try again: nothing serves the model just now
│   ├── ControlFailed             a model can not be loaded or unloaded as things stand
│   ├── DeadlineExceeded          the request's own time ran out
│   ├── Cancelled                 the caller went away
│   └── ExecutionFailed           ours or the engine's: this batch failed
├── OperatorError                 answers the operator: what is wrong, where, how to mend it
│   ├── ConfigurationError        a setting or a model configuration
│   ├── RepositoryError           the model repository's layout
│   └── ModelLoadError            an engine file that does not load
├── DeviceError                   a device call failed; `sticky` ends the worker
└── ProtocolError                 our own processes disagree: a bug
"""

from typing import ClassVar

MAX_TEXT_BYTES = 2048
"""Of an error's text that a client gets. gRPC carries it in a header, and clients take no more
than 8 KiB of these; what is not ASCII grows threefold there."""


class TrtserveError(Exception):
    """The base of all errors here."""


class RequestError(TrtserveError):
    """Answers one request.

    `code` is the name of the gRPC status code; `word` is the label that metrics use.
    """

    code: ClassVar[str] = "INTERNAL"
    word: ClassVar[str] = "internal"
    retry_after_ms: int | None = None

    @property
    def text(self) -> str:
        """What the client is told. It may repeat what a client made up, however long that is."""
        whole = str(self)
        data = whole[: MAX_TEXT_BYTES + 1].encode(errors="replace")
        if len(data) <= MAX_TEXT_BYTES:
            return whole
        return data[: MAX_TEXT_BYTES - 3].decode(errors="ignore") + "..."


class InvalidRequest(RequestError):
    """The request can never succeed as it is."""

    code = "INVALID_ARGUMENT"
    word = "invalid"


class ModelNotFound(RequestError):
    """No model or version of that name."""

    code = "NOT_FOUND"
    word = "not_found"


class NotServed(RequestError):
    """The call exists in the protocol and is not served here."""

    code = "UNIMPLEMENTED"
    word = "unimplemented"


class Unauthenticated(RequestError):
    """The call needs a proof of who calls, or the one that came is wrong."""

    code = "UNAUTHENTICATED"
    word = "unauthenticated"


class PermissionDenied(RequestError):
    """Whoever calls may not do this, or not on this way in."""

    code = "PERMISSION_DENIED"
    word = "denied"


class Overloaded(RequestError):
    """Refused at the door; nothing was queued. Try again after `retry_after_ms`."""

    code = "RESOURCE_EXHAUSTED"
    word = "overloaded"

    def __init__(self, message: str, retry_after_ms: int = 10) -> None:
        super().__init__(message)
        self.retry_after_ms = retry_after_ms


class RateLimited(RequestError):
    """The caller has used up its rate. Try again after `retry_after_ms`."""

    code = "RESOURCE_EXHAUSTED"
    word = "rate"

    def __init__(self, message: str, retry_after_ms: int = 1000) -> None:
        super().__init__(message)
        self.retry_after_ms = retry_after_ms


class Unavailable(RequestError):
    """Nothing serves the model just now; another try may succeed."""

    code = "UNAVAILABLE"
    word = "unavailable"


class ControlFailed(RequestError):
    """A model can not be loaded or unloaded as things stand; what served goes on serving."""

    code = "FAILED_PRECONDITION"
    word = "control"


class DeadlineExceeded(RequestError):
    """The request's deadline passed before it reached the device."""

    code = "DEADLINE_EXCEEDED"
    word = "deadline"


class Cancelled(RequestError):
    """The caller cancelled or went away."""

    code = "CANCELLED"
    word = "cancelled"


class ExecutionFailed(RequestError):
    """The engine failed on this batch, or the request was in flight in two crashes."""

    code = "INTERNAL"
    word = "execution"


class OperatorError(TrtserveError):
    """Tells the operator what is wrong, where, and how to mend it."""

    def __init__(self, problem: str, *, where: str = "", cure: str = "") -> None:
        super().__init__(problem)
        self.problem = problem
        self.where = where
        self.cure = cure

    def __str__(self) -> str:
        place = f"{self.where}: " if self.where else ""
        cure = f". {self.cure}" if self.cure else ""
        return f"{place}{self.problem}{cure}"


class ConfigurationError(OperatorError):
    """A setting or a model configuration is wrong."""


class RepositoryError(OperatorError):
    """The model repository is not laid out as it should be."""


class ModelLoadError(OperatorError):
    """An engine file does not load."""


class DeviceError(TrtserveError):
    """A device call failed. After a sticky error the process must end."""

    def __init__(self, message: str, *, name: str = "", sticky: bool = False) -> None:
        super().__init__(message)
        self.name = name
        self.sticky = sticky


class ProtocolError(TrtserveError):
    """A message between our own processes that should not have come: a bug."""


def request_error_classes() -> dict[str, type[RequestError]]:
    """Each metric word with its class: how an error crosses a process border."""
    return {
        cls.word: cls
        for cls in (
            InvalidRequest, ModelNotFound, NotServed, Unauthenticated, PermissionDenied,
            Overloaded, RateLimited, Unavailable, ControlFailed, DeadlineExceeded, Cancelled,
            ExecutionFailed, RequestError,
        )
    }


def request_error(word: str, message: str, retry_after_ms: int | None = None) -> RequestError:
    """Rebuild a request error from its metric word."""
    error = request_error_classes().get(word, RequestError)(message)
    if retry_after_ms is not None:
        error.retry_after_ms = retry_after_ms
    return error
