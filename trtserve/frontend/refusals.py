"""Log lines about requests that were refused or failed: one for each, at a bounded rate.

Each error word has an allowance of its own, so that a flood of one kind hides no other. What
is left out is counted, and the next line of its kind tells how many there were.
"""

import logging
from collections.abc import Callable

from trtserve import clock
from trtserve.clock import NS_PER_MS
from trtserve.errors import RequestError
from trtserve.frontend.call import NO_CALL, Call
from trtserve.frontend.recent_errors import RecentErrors
from trtserve.frontend.trace_context import trace_hex
from trtserve.log import printable
from trtserve.security.rates import Allowance, Rate

log = logging.getLogger(__name__)

RATE = Rate(requests_per_second=1, burst=10)
"""Of the lines of one word."""

MAX_MESSAGE = 500
"""Characters of an error's text: it may repeat names that a client made up."""

_OURS = frozenset({"internal", "execution", "unavailable", "overloaded", "deadline"})
"""Words that the operator may have to do something about: warnings. The others are callers'
mistakes and wishes."""

_FAILED = frozenset({"internal", "execution", "deadline", "cancelled"})
"""Words of requests that were taken; the others were refused."""


class _Lines:
    """Those of one word. `suppressed` counts what had none since the last one."""

    __slots__ = ("allowance", "suppressed")

    def __init__(self) -> None:
        self.allowance = Allowance(RATE)
        self.suppressed = 0


class Refusals:
    """The lines of one front end."""

    def __init__(self, now: Callable[[], int] = clock.now_ns) -> None:
        self._now = now
        self._lines: dict[str, _Lines] = {}
        self.recent = RecentErrors()

    def note(
        self, error: RequestError, *, call: Call = NO_CALL, model: str = "", version: str = "",
        request_id: bytes = b"", duration_ns: int = 0, trace_id: int = 0,
    ) -> None:
        """A request was answered with an error. The model is named only where it is known."""
        now = self._now()
        self.recent.note(error, model, version, now)
        word = error.word
        lines = self._lines.get(word)
        if lines is None:
            lines = self._lines[word] = _Lines()
        if lines.allowance.take(now):
            lines.suppressed += 1
            return
        suppressed, lines.suppressed = lines.suppressed, 0
        method = call.method.rpartition("/")[2] or "a call"
        fields: dict[str, object] = {"method": method, "outcome": word, "code": error.code}
        details = []
        if model:
            fields |= {"model": model, "version": version}
        shown_id = printable(call.request_id(request_id)) or (
            trace_hex(trace_id) if trace_id else ""
        )
        if shown_id:
            fields["request_id"] = shown_id
            details.append(f"request {shown_id}")
        if call.caller:
            fields["caller"] = printable(call.caller)
            details.append(f"caller {fields['caller']}")
        if trace_id:
            fields["trace_id"] = trace_hex(trace_id)
        fields["duration_ms"] = round(duration_ns / NS_PER_MS, 3)
        details.append(f"{fields['duration_ms']:g} ms")
        if suppressed:
            fields["suppressed"] = suppressed
            details.append(f"and {suppressed} more like it")
        whose = f" for {printable(model)} version {version}" if model else ""
        log.log(
            _level(word), "%s%s %s (%s): %s [%s]",
            method, whose, "failed" if word in _FAILED else "refused", word,
            printable(str(error), MAX_MESSAGE), ", ".join(details), extra=fields,
        )

    def flush(self) -> None:
        """Tell of what was left out and had no next line. Called now and then."""
        now = self._now()
        for word, lines in self._lines.items():
            if lines.suppressed and not lines.allowance.take(now):
                log.log(
                    _level(word), "and %d more requests like those before (%s)", lines.suppressed,
                    word, extra={"outcome": word, "suppressed": lines.suppressed},
                )
                lines.suppressed = 0


def _level(word: str) -> int:
    return logging.WARNING if word in _OURS else logging.INFO
