"""The last error of each kind, for people who look at the status page."""

from trtserve.errors import RequestError
from trtserve.ipc.statistics import ErrorSample
from trtserve.log import printable

MAX_MESSAGE = 300
"""Characters of an error's text: it may repeat names that a client made up."""

MAX_KINDS = 200
"""Kinds that are remembered, a kind being (model, version, word)."""

_Kind = tuple[str, str, str]


class RecentErrors:
    """Keeps the text of the last error of each kind, which costs next to nothing; it is made fit
    to be shown when somebody asks. The error itself would keep alive the request that it failed,
    by way of its traceback."""

    def __init__(self) -> None:
        self._last: dict[_Kind, tuple[str, int]] = {}

    def note(self, error: RequestError, model: str, version: str, now: int) -> None:
        """A request was answered with an error; empty names where its model is not known."""
        kind = (model, version, error.word)
        if kind not in self._last and len(self._last) >= MAX_KINDS:
            oldest = min(self._last, key=lambda known: self._last[known][1])
            del self._last[oldest]
        self._last[kind] = (error.text, now)

    def samples(self) -> tuple[ErrorSample, ...]:
        """What a heartbeat carries."""
        return tuple(
            ErrorSample(*kind, printable(text, MAX_MESSAGE), at_ns)
            for kind, (text, at_ns) in self._last.items()
        )
