"""OpenTelemetry's spans of one request, made of what was written down when it was answered.

The server span is the request from arrival to answer. Its children follow one another: `admission`
(read, route, copy), `queue` (waiting for company and a lane), then the batch's `stage`, `h2d`,
`compute` and `d2h`, and `answer`.
"""

import random
from collections.abc import Iterator
from typing import Any

from trtserve.frontend.reply import STATUS_NUMBERS
from trtserve.frontend.tracing import Traced
from trtserve.ipc.message import Bucket

_OUR_FAULT = frozenset({"DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE"})
"""Codes that make a server's span an error; with others the caller erred, or was turned away:
https://opentelemetry.io/docs/specs/semconv/rpc/grpc/"""

_BITS = 64


class SpanMaker:
    """Makes spans. `attributes` describe this process; OTEL_RESOURCE_ATTRIBUTES and
    OTEL_SERVICE_NAME add to them and go before.

    Raises ImportError without OpenTelemetry's packages.
    """

    def __init__(self, attributes: dict[str, str]) -> None:
        from opentelemetry import trace
        from opentelemetry.sdk.resources import OTELResourceDetector, Resource
        from opentelemetry.sdk.trace import ReadableSpan
        from opentelemetry.sdk.util.instrumentation import InstrumentationScope

        self._trace: Any = trace
        self._span: Any = ReadableSpan
        own = Resource.create(attributes)
        self._resource = own.merge(OTELResourceDetector().detect())
        self._scope = InstrumentationScope("trtserve", attributes.get("service.version"))

    def of(self, traced: Traced) -> list[Any]:
        """All spans of a request, the server's first."""
        trace = self._trace
        own = traced.trace
        context = self._context(own.trace_id, own.span_id, own.state)
        parent = None
        if own.parent_id:
            parent = self._context(own.trace_id, own.parent_id, own.state, remote=True)
        error = traced.error
        status = trace.Status()
        if error is not None and error.code in _OUR_FAULT:
            status = trace.Status(trace.StatusCode.ERROR, error.text)
        server = self._span(
            own.call.method, context, parent, self._resource, _attributes(traced),
            links=[trace.Link(self._context(*mate)) for mate in traced.mates],
            kind=trace.SpanKind.SERVER, status=status, instrumentation_scope=self._scope,
            start_time=traced.arrived_ns + traced.clock_ns,
            end_time=traced.ended_ns + traced.clock_ns,
        )
        return [server, *(
            self._span(
                name, self._context(own.trace_id, random.getrandbits(_BITS) or 1, own.state),
                context, self._resource, instrumentation_scope=self._scope,
                start_time=start + traced.clock_ns, end_time=end + traced.clock_ns,
            )
            for name, start, end in phases(traced)
        )]

    def _context(self, trace_id: int, span_id: int, state: str = "", remote: bool = False) -> Any:
        trace = self._trace
        return trace.SpanContext(
            trace_id, span_id, remote, trace.TraceFlags(trace.TraceFlags.SAMPLED),
            trace.TraceState.from_header([state]) if state else None,
        )


def phases(traced: Traced) -> Iterator[tuple[str, int, int]]:
    """What a request went through: (name, begin, end), as far as it came."""
    sent = traced.trace.sent_ns
    yield "admission", traced.arrived_ns, sent or traced.ended_ns
    timing = traced.timing
    if timing is None:
        if sent:
            yield "queue", sent, traced.ended_ns
        return
    at = timing.began_ns or timing.started_ns
    # A worker has had it since Submit; how long the batch then waited for its lane's thread
    # belongs to the queue too.
    yield "queue", sent, max(sent, at)
    for name, duration in (
        ("stage", timing.stage_ns), ("h2d", timing.h2d_ns), ("compute", timing.compute_ns),
        ("d2h", timing.d2h_ns),
    ):
        if duration:
            yield name, at, at + duration
        at += duration
    yield "answer", min(at, traced.ended_ns), traced.ended_ns


def _attributes(traced: Traced) -> dict[str, str | int]:
    service, _, method = traced.trace.call.method.rpartition("/")
    error = traced.error
    found: dict[str, str | int] = {
        "rpc.system": "grpc",
        "rpc.service": service,
        "rpc.method": method,
        "rpc.grpc.status_code": STATUS_NUMBERS[error.code] if error is not None else 0,
        "trtserve.outcome": error.word if error is not None else "ok",
    }
    if error is not None:
        found["error.type"] = error.word
    if traced.request_id:
        found["trtserve.request_id"] = traced.request_id
    if traced.trace.call.caller:
        found["trtserve.caller"] = traced.trace.call.caller
    if traced.template is not None:
        spec, route = traced.template.spec, traced.template.route
        found["trtserve.model"] = spec.model
        found["trtserve.version"] = spec.version
        found["trtserve.variant"] = spec.variants[route.variant].name
        found["trtserve.bucket"] = bucket_text(route.bucket)
        found["trtserve.rows"] = route.rows
    if traced.worker:
        found["trtserve.worker"] = traced.worker
    if traced.attempts:
        found["trtserve.replays"] = traced.attempts
    timing = traced.timing
    if timing is not None:
        found["trtserve.lane"] = timing.lane
        found["trtserve.batch.requests"] = timing.requests
        found["trtserve.batch.rows"] = timing.rows
    return found


def bucket_text(bucket: Bucket) -> str:
    """The shapes of a bucket for people: `3x224x224,10`."""
    return ",".join("x".join(map(str, shape)) or "scalar" for shape in bucket)
