"""From a gRPC message to a worker and back.

A request is split, looked up, admitted (not where every worker would refuse it: door.py), copied
into one block of this front end's arena (the only copy on the way in), and submitted to the worker
that should have it done first. It is answered when the worker says Done or Failed. When a worker
dies, what it had is sent again, once, to another or the next one, as soon as the dead process is
reaped and can touch no block any more. Blocks are freed in one place: `_settle`.

Everything here runs on the event loop's thread.
"""

from collections.abc import Callable

from trtserve import clock
from trtserve.errors import (
    Cancelled,
    DeadlineExceeded,
    ExecutionFailed,
    InvalidRequest,
    Overloaded,
    RequestError,
    Unavailable,
    request_error,
)
from trtserve.frontend import wire
from trtserve.frontend.admission import Admission
from trtserve.frontend.call import Call
from trtserve.frontend.counts import Counts
from trtserve.frontend.follow import follow
from trtserve.frontend.inputs import input_bytes
from trtserve.frontend.link import WorkerLink
from trtserve.frontend.pending import Pending
from trtserve.frontend.receipt import receipt_parameters
from trtserve.frontend.refusals import Refusals
from trtserve.frontend.reply import Reply
from trtserve.frontend.template import Template, Templates
from trtserve.frontend.tracing import Member, Trace, Tracer
from trtserve.frontend.workers import knock, lend_to_one, serving, with_room
from trtserve.ipc.arena import Arena
from trtserve.ipc.message import Cancel, Done, Failed, OutputBlock, Submit
from trtserve.model.spec import ModelState

MAX_ATTEMPTS = 2
"""A request that was in flight in two crashes may be their cause: it is not sent a third time."""

_ALIGNMENT = 256


class Dispatcher:
    """All requests of one front end that are in flight."""

    def __init__(
        self, arena: Arena, admission: Admission, patience_ns: int,
        want_flush: Callable[[], None], *, now: Callable[[], int] = clock.now_ns,
        tracer: Tracer | None = None,
    ) -> None:
        assert arena.allocator is not None  # made by create()
        self.templates = Templates()
        self.counts = Counts()
        self.refusals = Refusals(now)
        self._tracer = tracer
        self._arena = arena
        self._allocator = arena.allocator
        self._admission = admission
        self._patience_ns = patience_ns
        self._want_flush = want_flush
        self._now = now
        self._pending: dict[int, Pending] = {}
        self._parked: dict[int, Pending] = {}
        self._links: dict[str, WorkerLink] = {}
        self._next_id = 1
        # Until then some worker's door may be closed to some requests.
        self._closed_until_ns = 0

    # --- from the services ---------------------------------------------------------------

    def start(
        self, data: bytes, span: wire.Span, reply: Reply, slot: int, deadline_ns: int
    ) -> Pending | None:
        """Begin a request that lies at `span` of a gRPC message.

        Its outcome goes to the reply, errors included, possibly before this returns; None is
        returned when it has failed already.
        """
        arrived = self._now()
        request_id = b""
        counts = self.counts.unknown
        template = None
        trace = None if self._tracer is None else self._tracer.begin(reply.call)
        try:
            head, request_id, raws = wire.split_request(data, *span)
            if reply.call.admit is not None:
                reply.call.admit(head)
            template = self.templates.find(head)
            counts = self.counts.of(template.spec.model, template.spec.version)
            tensors = input_bytes(data, template, raws)
            if template.timeout_ns:
                deadline_ns = _earlier(deadline_ns, arrived + template.timeout_ns)
            if arrived < self._closed_until_ns:
                route = template.route
                there = serving(template.version, route, self._links)
                knock(there, route, deadline_ns, arrived)
            self._admission.take()
        except RequestError as error:
            ended = self._now()
            counts.fail(error.word, ended - arrived)
            reply.fail(slot, error, request_id)
            self._tell(error, reply.call, template, request_id, ended - arrived, trace)
            if trace is not None and self._tracer is not None:
                self._tracer.failed(trace, error, arrived, ended, request_id, template)
            return None
        pending = Pending(template, reply, slot, request_id, arrived)
        pending.trace = trace
        pending.id = self._next_id
        pending.counts = counts
        self._next_id += 1
        self._pending[pending.id] = pending
        pending.deadline_ns = deadline_ns
        try:
            self._place(pending, tensors)
        except RequestError as error:
            self._fail(pending, error)
            return None
        self._send(pending)
        return pending

    def cancel(self, pending: Pending) -> None:
        """The caller is gone. The block is freed once no worker can read it."""
        if pending.id not in self._pending:
            return
        if pending.link is None:
            self._fail(pending, Cancelled("the caller cancelled"))
        elif not pending.cancelled:
            pending.cancelled = True
            pending.link.channel.send(Cancel((pending.id,)))
            self._want_flush()

    @property
    def in_flight(self) -> int:
        """Requests not answered yet."""
        return len(self._pending)

    @property
    def parked(self) -> int:
        """Requests that wait for a worker to come back."""
        return len(self._parked)

    # --- from the workers ----------------------------------------------------------------

    def add_link(self, link: WorkerLink) -> None:
        """A new worker process is there (its models may still be loading)."""
        self._links[link.peer] = link

    def done(self, link: WorkerLink, message: Done) -> None:
        """Answer the requests of a batch, copying their outputs out of the worker's arena."""
        now = self._now()
        view = link.view
        offsets = {block.index: block.offset for block in message.outputs}
        blocks = {block.index: block for block in message.outputs}
        traced: list[Member] = []
        for position, request in enumerate(message.ids):
            pending = self._pending.get(request)
            rows = message.rows[position]
            if pending is not None:
                template = pending.template
                raws, shapes, size = [], [], 0
                for index in template.outputs:
                    block = blocks[index]
                    start, length = offsets[index], block.sizes[position]
                    raws.append(view[start : start + length])
                    shapes.append(_whole_shape(template, block, rows))
                    size += length
                parameters = (
                    receipt_parameters(template, pending.arrived_ns, message.timing)
                    if template.receipt else b""
                )
                head = template.response_head(tuple(shapes))
                parts = wire.response_parts(head, pending.request_id, parameters, raws)
                pending.reply.answer(pending.slot, parts, sum(map(len, parts)))
                duration = now - pending.arrived_ns
                pending.counts.succeeded(duration, size)
                if pending.trace is not None:
                    traced.append(Member(
                        pending.trace, template, pending.arrived_ns, pending.request_id,
                        pending.attempts, pending.counts,
                    ))
                self._settle(pending, duration)
            for block in message.outputs:
                offsets[block.index] += block.sizes[position]
        if traced and self._tracer is not None:
            self._tracer.done(link.peer, traced, message.timing, self._now())
        if len(self._links) > 1:
            link.backlog.told(message.timing.backlog_ns, now)
        link.release(message.lease)
        self._want_flush()

    def failed(self, message: Failed) -> None:
        """Answer requests that a worker refused or could not run."""
        for request in message.ids:
            pending = self._pending.get(request)
            if pending is not None:
                if message.closed is not None:
                    self._close_door(pending, message)
                self._fail(
                    pending, request_error(message.word, message.message, message.retry_after_ms)
                )

    def model_changed(self) -> None:
        """Send what is parked and can go now; fail what never will."""
        if self._parked:
            for pending in list(self._parked.values()):
                self._send(pending)

    def worker_reaped(self, peer: str) -> None:
        """That worker touches no block any more: send again, once, what it had."""
        link = self._links.pop(peer, None)
        if link is None:
            return
        for pending in [p for p in self._pending.values() if p.link is link]:
            pending.link = None
            pending.attempts += 1
            if pending.attempts >= MAX_ATTEMPTS:
                self._fail(pending, ExecutionFailed(
                    "the request was in flight in two crashes of its worker; it is not tried again"
                ))
            else:
                pending.counts.replayed += 1
                self._send(pending)
        link.close()

    def expire(self) -> None:
        """Fail parked requests that have waited too long. Called now and then."""
        now = self._now()
        for pending in list(self._parked.values()):
            if pending.deadline_ns and now >= pending.deadline_ns:
                self._fail(pending, DeadlineExceeded(
                    "the deadline passed while the request waited for a worker"
                ))
            elif not pending.deadline_ns and now >= pending.arrived_ns + self._patience_ns:
                self._fail(pending, Unavailable("no worker came back in time"))

    def fail_all(self, error: Callable[[], RequestError]) -> None:
        """Answer everything with an error: the front end must end."""
        for pending in list(self._pending.values()):
            self._fail(pending, error())

    # --- inside --------------------------------------------------------------------------

    def _place(self, pending: Pending, tensors: list[memoryview | bytes]) -> None:
        """Copy the inputs into one block. Raises Overloaded when the arena is full."""
        offsets, need = [], 0
        for tensor in tensors:
            offsets.append(need)
            need += -len(tensor) % _ALIGNMENT + len(tensor)
        block = self._allocator.allocate(need)
        if block is None:
            if need > self._arena.size:
                raise InvalidRequest(
                    f"the inputs are {need} bytes, more than the server's arena_bytes "
                    f"({self._arena.size})"
                )
            raise Overloaded(
                "the memory for tensors in flight is full (arena_bytes)",
                self._admission.pushback_ms(),
            )
        pending.block = block
        view = self._arena.view
        places: list[tuple[int, int]] = []
        size = 0
        for offset, tensor in zip(offsets, tensors, strict=True):
            length = len(tensor)
            start = block + offset
            view[start : start + length] = tensor
            places.append((start, length))
            size += length
        pending.inputs = tuple(places)
        pending.counts.input_bytes += size

    def _send(self, pending: Pending) -> None:
        """Submit to a worker that serves the version, or park until one does."""
        template = pending.template
        if pending.cancelled:
            self._fail(pending, Cancelled("the caller cancelled"))
            return
        spec = template.spec
        version = self.templates.catalog.models.get(spec.model, {}).get(spec.version)
        if version is None or (version.spec is not spec and version.spec != spec):
            try:
                template = pending.template = follow(template, self.templates.catalog)
            except Unavailable as error:
                self._fail(pending, error)
                return
            spec, version = template.spec, template.version
        route = template.route
        there = serving(version, route, self._links)
        if not there:
            if version.will_serve or version.state == ModelState.LOADING:
                self._parked[pending.id] = pending
            else:
                self._fail(pending, Unavailable(
                    f"model '{spec.model}' version {spec.version} is not served any more"
                ))
            return
        link, placement = there[0]
        pending.cost_ns = 0
        if len(there) > 1:
            now = self._now()
            if now < self._closed_until_ns:
                there = with_room(there, route, pending.deadline_ns, now)
            link, placement, pending.cost_ns = lend_to_one(version, route, there, now)
        self._parked.pop(pending.id, None)
        pending.link = link
        if pending.trace is not None:
            pending.trace.sent_ns = self._now()
        link.lent += 1
        link.channel.send(Submit(
            pending.id, placement.variant_ids[route.variant], route.bucket, route.rows,
            pending.inputs, template.outputs, pending.arrived_ns, pending.deadline_ns,
            template.priority,
        ))
        self._want_flush()

    def _close_door(self, pending: Pending, refusal: Failed) -> None:
        """A worker had no room for a request: others like it are refused here for a moment."""
        link, route = pending.link, pending.template.route
        placement = pending.template.version.placements.get(link.peer) if link else None
        if link is None or placement is None or route.variant >= len(placement.variant_ids):
            return
        kind = placement.variant_ids[route.variant], route.bucket
        until = link.door.close(kind, route.rows, refusal, self._now())
        self._closed_until_ns = max(self._closed_until_ns, until)

    def _fail(self, pending: Pending, error: RequestError) -> None:
        ended = self._now()
        duration = ended - pending.arrived_ns
        pending.counts.fail(error.word, duration)
        pending.reply.fail(pending.slot, error, pending.request_id)
        trace, template, call = pending.trace, pending.template, pending.reply.call
        self._tell(error, call, template, pending.request_id, duration, trace)
        if trace is not None and self._tracer is not None:
            self._tracer.failed(
                trace, error, pending.arrived_ns, ended, pending.request_id, template,
                pending.link.peer if pending.link is not None else "", pending.attempts,
            )
        self._settle(pending, duration)

    def _tell(
        self, error: RequestError, call: Call, template: Template | None, request_id: bytes,
        duration_ns: int, trace: Trace | None,
    ) -> None:
        """Write a line about a request that got an error."""
        self.refusals.note(
            error, call=call, model=template.spec.model if template is not None else "",
            version=str(template.spec.version) if template is not None else "",
            request_id=request_id, duration_ns=duration_ns,
            trace_id=trace.trace_id if trace is not None else 0,
        )

    def _settle(self, pending: Pending, duration_ns: int) -> None:
        """It is answered: free what it holds."""
        pending.answered = True
        del self._pending[pending.id]
        self._parked.pop(pending.id, None)
        if pending.link is not None:
            pending.link.lent -= 1
            pending.link.backlog.lent_ns -= pending.cost_ns
        if pending.block >= 0:
            self._allocator.free(pending.block)
        self._admission.release(duration_ns)


def _whole_shape(template: Template, block: OutputBlock, rows: int) -> tuple[int, ...]:
    if template.spec.variants[template.route.variant].max_batch:
        return (rows, *block.shape)
    return block.shape


def _earlier(one: int, other: int) -> int:
    """The earlier of two deadlines, where 0 is none."""
    return min(one, other) if one and other else one or other

