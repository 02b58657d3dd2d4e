"""W3C Trace Context: what `traceparent` and `tracestate` say of who called. Pure.

https://www.w3.org/TR/trace-context/
"""

import re
from dataclasses import dataclass

MAX_STATE = 512
"""Characters of `tracestate` that are passed on. A longer one is dropped, as one may."""

MAX_MEMBERS = 32
"""Entries of `tracestate` that the standard allows."""

_PARENT = re.compile(
    r"(?P<version>[0-9a-f]{2})-(?P<trace>[0-9a-f]{32})-(?P<span>[0-9a-f]{16})-(?P<flags>[0-9a-f]{2})"
    r"(?P<rest>-.*)?",
    re.ASCII,
)

_MEMBER = re.compile(
    r"(?P<key>[a-z][_0-9a-z\-*/]{0,255}|[a-z0-9][_0-9a-z\-*/]{0,240}@[a-z][_0-9a-z\-*/]{0,13})"
    r"=[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e]",
    re.ASCII,
)

_SAMPLED = 1


@dataclass(frozen=True, slots=True)
class TraceParent:
    """The caller's span. `sampled`: the caller records it, so those below it should be too."""

    trace_id: int
    span_id: int
    sampled: bool
    state: str = ""


def parse_parent(traceparent: str, tracestate: str = "") -> TraceParent | None:
    """What the two headers say; None where `traceparent` is none that the standard allows.

    Later versions may say more behind what is known; version ff is none.
    """
    found = _PARENT.fullmatch(traceparent.strip())
    if found is None or found["version"] == "ff":
        return None
    if found["version"] == "00" and found["rest"]:
        return None
    trace_id, span_id = int(found["trace"], 16), int(found["span"], 16)
    if not trace_id or not span_id:
        return None
    sampled = bool(int(found["flags"], 16) & _SAMPLED)
    return TraceParent(trace_id, span_id, sampled, _state(tracestate))


def _state(text: str) -> str:
    """A `tracestate` as it is passed on; empty for one that the standard does not allow: whoever
    reads it after us would complain of it, with every request."""
    if len(text) > MAX_STATE:
        return ""
    members = [member.strip(" \t") for member in text.split(",")]
    members = [member for member in members if member]
    found = [_MEMBER.fullmatch(member) for member in members]
    keys = {member["key"] for member in found if member is not None}
    return ",".join(members) if len(keys) == len(members) <= MAX_MEMBERS else ""


def trace_hex(trace_id: int) -> str:
    """A trace's id as everybody writes it."""
    return f"{trace_id:032x}"
