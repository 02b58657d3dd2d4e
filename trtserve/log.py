"""Log lines to standard error: one for each event, with the process's role."""

import json
import logging
import sys

from trtserve.clock import unix_seconds

_RESERVED = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}


def printable(text: str, limit: int = 200) -> str:
    """A text of somebody else's as it may stand in a line: what would end the line, move the
    cursor or turn the writing around is escaped, and what is beyond `limit` characters left out."""
    if len(text) > limit:
        text = text[:limit] + "..."
    if text.isprintable():
        return text
    return "".join([c if c.isprintable() else ascii(c)[1:-1] for c in text])


def configure(role: str, level: str, form: str) -> None:
    """Set up logging for this process. `form` is `console` or `json`."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Json(role) if form == "json" else _Console(role))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())


class _Console(logging.Formatter):
    def __init__(self, role: str) -> None:
        super().__init__(f"%(asctime)s  {role:<14} %(levelname)-7s %(message)s", "%H:%M:%S")


class _Json(logging.Formatter):
    """One JSON object a line; what a call passes as `extra` becomes fields."""

    def __init__(self, role: str) -> None:
        super().__init__()
        self._role = role

    def format(self, record: logging.LogRecord) -> str:
        fields = {
            "time": round(unix_seconds(), 3),
            "level": record.levelname.lower(),
            "role": self._role,
            "message": record.getMessage(),
        }
        fields.update({k: v for k, v in vars(record).items() if k not in _RESERVED})
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        return json.dumps(fields, default=str)
