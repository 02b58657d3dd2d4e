"""The gRPC call that a request came with, for those who want to know who asked.

Nothing is read from the call before somebody wants it: most requests go well, and then nobody
does.
"""

from collections.abc import Callable
from typing import Any

from trtserve.frontend.trace_context import TraceParent, parse_parent, trace_hex

MAX_ID = 128
"""Characters of a client's id for a request that are kept."""

REQUEST_ID = "x-request-id"
TRACE_PARENT = "traceparent"
TRACE_STATE = "tracestate"


class Call:
    """One gRPC call, of one or many requests.

    `method` is its full name, such as `inference.GRPCInferenceService/ModelInfer`. `caller` is
    the name of who calls, where that is known; `admit` is asked about each request's head, where
    somebody minds, and raises a RequestError.
    """

    __slots__ = ("_context", "_metadata", "_parent", "_parent_read", "admit", "caller", "method")

    def __init__(
        self, context: Any, method: str, caller: str = "",
        admit: Callable[[bytes], None] | None = None,
    ) -> None:
        self.method = method
        self.caller = caller
        self.admit = admit
        self._context = context
        self._metadata: dict[str, str] | None = None
        self._parent: TraceParent | None = None
        self._parent_read = False

    @property
    def metadata(self) -> dict[str, str]:
        """The texts that came with the call, by lower-case name; several of one name are joined
        with commas."""
        if self._metadata is None:
            found: dict[str, str] = {}
            pairs = self._context.invocation_metadata() if self._context is not None else ()
            for key, value in pairs or ():
                if isinstance(value, str):
                    found[key] = f"{found[key]},{value}" if key in found else value
            self._metadata = found
        return self._metadata

    @property
    def parent(self) -> TraceParent | None:
        """The caller's span, if it sent one."""
        if not self._parent_read:
            self._parent_read = True
            given = self.metadata.get(TRACE_PARENT)
            if given is not None:
                self._parent = parse_parent(given, self.metadata.get(TRACE_STATE, ""))
        return self._parent

    def request_id(self, own: bytes) -> str:
        """What to call a request in a log: its `own` id, else `x-request-id`, else the id of the
        trace that it belongs to; empty without any of them. Bounded, but not escaped."""
        if own:
            return own[: 4 * MAX_ID].decode(errors="replace")[:MAX_ID]
        named = self.metadata.get(REQUEST_ID)
        if named:
            return named[:MAX_ID]
        return trace_hex(self.parent.trace_id) if self.parent is not None else ""


NO_CALL = Call(None, "")
"""Of requests that came with none."""
