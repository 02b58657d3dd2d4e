"""Every error that trtserve raises, by whose doing it is and whether to try again.

TrtserveError
├── RequestError                  answers one request; has a gRPC code and a metric word
│   ├── InvalidRequest            the caller's: names what came and what fits
│   ├── ModelNotFound             the caller's: no such model or version
│   ├── NotServed                 the caller's: a call that this server does not have
│   ├── Overloaded                try again after `retry_after_ms`
│   ├── Unavailable               try again: nothing serves the model just now
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


class TrtserveError(Exception):
    """The base of all errors here."""


class RequestError(TrtserveError):
    """Answers one request.

    `code` is the name of the gRPC status code; `word` is the label that metrics use.
    """

    code: ClassVar[str] = "INTERNAL"
    word: ClassVar[str] = "internal"
    retry_after_ms: int | None = None


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


class Overloaded(RequestError):
    """Refused at the door; nothing was queued. Try again after `retry_after_ms`."""

    code = "RESOURCE_EXHAUSTED"
    word = "overloaded"

    def __init__(self, message: str, retry_after_ms: int = 10) -> None:
        super().__init__(message)
        self.retry_after_ms = retry_after_ms


class Unavailable(RequestError):
    """Nothing serves the model just now; another try may succeed."""

    code = "UNAVAILABLE"
    word = "unavailable"


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
            InvalidRequest, ModelNotFound, NotServed, Overloaded, Unavailable,
            DeadlineExceeded, Cancelled, ExecutionFailed, RequestError,
        )
    }


def request_error(word: str, message: str, retry_after_ms: int | None = None) -> RequestError:
    """Rebuild a request error from its metric word."""
    error = request_error_classes().get(word, RequestError)(message)
    if retry_after_ms is not None:
        error.retry_after_ms = retry_after_ms
    return error
