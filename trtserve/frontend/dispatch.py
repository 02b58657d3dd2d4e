"""From a gRPC message to a worker and back.

A request is split, looked up, admitted, copied into one block of this front end's arena (the
only copy on the way in), and submitted to the worker that should have it done first. It is
answered when the worker says Done or Failed. When a worker dies, what it had is sent again, once,
to another or the next one, as soon as the dead process is reaped and can touch no block any more.
Blocks are freed in one place: `_settle`.

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
from trtserve.frontend.choice import UNMEASURED_NS, Candidate, first_to_finish
from trtserve.frontend.counts import Counts, VersionCounts
from trtserve.frontend.link import WorkerLink
from trtserve.frontend.receipt import receipt_parameters
from trtserve.frontend.reply import Reply
from trtserve.frontend.template import Template, Templates
from trtserve.ipc.arena import Arena
from trtserve.ipc.message import Cancel, Done, Failed, OutputBlock, Submit
from trtserve.model.catalog import Placement, Version
from trtserve.model.route import Route
from trtserve.model.spec import ModelState
from trtserve.model.tensor import check_size

MAX_ATTEMPTS = 2
"""A request that was in flight in two crashes may be their cause: it is not sent a third time."""

_ALIGNMENT = 256


class Pending:
    """One request that is not answered yet. Times in nanoseconds, 0 for no deadline.

    `link` is the worker that has it, None while it is parked; `cost_ns` is what it counts in
    that worker's backlog. `attempts` counts the workers that died with it.
    """

    __slots__ = (
        "answered", "arrived_ns", "attempts", "block", "cancelled", "cost_ns", "counts",
        "deadline_ns", "id", "inputs", "link", "reply", "request_id", "slot", "template",
    )

    def __init__(
        self, template: Template, reply: Reply, slot: int, request_id: bytes, arrived_ns: int
    ) -> None:
        self.template = template
        self.reply = reply
        self.slot = slot
        self.request_id = request_id
        self.arrived_ns = arrived_ns
        self.deadline_ns = 0
        self.id = 0
        self.block = -1
        self.inputs: tuple[tuple[int, int], ...] = ()
        self.link: WorkerLink | None = None
        self.cost_ns = 0
        self.attempts = 0
        self.cancelled = False
        self.answered = False
        self.counts: VersionCounts


class Dispatcher:
    """All requests of one front end that are in flight."""

    def __init__(
        self, arena: Arena, admission: Admission, patience_ns: int,
        want_flush: Callable[[], None], *, now: Callable[[], int] = clock.now_ns,
    ) -> None:
        assert arena.allocator is not None  # made by create()
        self.templates = Templates()
        self.counts = Counts()
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
        try:
            head, request_id, raws = wire.split_request(data, *span)
            template = self.templates.find(head)
            counts = self.counts.of(template.spec.model, template.spec.version)
            tensors = _tensors(data, template, raws)
            self._admission.take()
        except RequestError as error:
            counts.fail(error.word, self._now() - arrived)
            reply.fail(slot, error, request_id)
            return None
        pending = Pending(template, reply, slot, request_id, arrived)
        pending.id = self._next_id
        pending.counts = counts
        self._next_id += 1
        self._pending[pending.id] = pending
        pending.deadline_ns = _earlier(
            deadline_ns, arrived + template.timeout_ns if template.timeout_ns else 0
        )
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
                self._settle(pending, duration)
            for block in message.outputs:
                offsets[block.index] += block.sizes[position]
        if len(self._links) > 1:
            link.backlog.told(message.timing.backlog_ns, now)
        link.release(message.lease)
        self._want_flush()

    def failed(self, message: Failed) -> None:
        """Answer requests that a worker refused or could not run."""
        for request in message.ids:
            pending = self._pending.get(request)
            if pending is not None:
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
        if version is not None and version.spec is not spec and version.spec != spec:
            self._fail(pending, Unavailable(
                f"model '{spec.model}' version {spec.version} changed while the request waited"
            ))
            return
        route = template.route
        serving: list[tuple[WorkerLink, Placement]] = []
        for placement in version.placements.values() if version else ():
            link = self._links.get(placement.worker)
            # A device may not have taken all engine files.
            there = placement.serves and route.variant < len(placement.variant_ids)
            if there and link is not None and link.alive:
                serving.append((link, placement))
        if version is None or not serving:
            if version is not None and (version.will_serve or version.state == ModelState.LOADING):
                self._parked[pending.id] = pending
            else:
                self._fail(pending, Unavailable(
                    f"model '{spec.model}' version {spec.version} is not served any more"
                ))
            return
        link, placement = serving[0]
        pending.cost_ns = 0
        if len(serving) > 1:
            link, placement, pending.cost_ns = self._lend_to_one(version, route, serving)
        self._parked.pop(pending.id, None)
        pending.link = link
        link.lent += 1
        link.channel.send(Submit(
            pending.id, placement.variant_ids[route.variant], route.bucket, route.rows,
            pending.inputs, template.outputs, pending.arrived_ns, pending.deadline_ns,
            template.priority,
        ))
        self._want_flush()

    def _lend_to_one(
        self, version: Version, route: Route, serving: list[tuple[WorkerLink, Placement]]
    ) -> tuple[WorkerLink, Placement, int]:
        """Of several workers the one to send a request to, and what it counts there.

        Where it was not measured it is taken to cost what it does on the others, so that a
        worker which nothing is known of gets its chance.
        """
        unmeasured = version.cost(route.variant, route.bucket) or UNMEASURED_NS
        candidates = []
        for link, placement in serving:
            link.backlog.lanes = max(link.backlog.lanes, placement.lanes)
            key = placement.variant_ids[route.variant], route.bucket
            cost_ns = route.rows * placement.costs.get(key, unmeasured)
            candidates.append(
                Candidate(link.backlog, link.lent, link.peer, placement.lanes, cost_ns)
            )
        now = self._now()
        index = first_to_finish(candidates, now)
        link, placement = serving[index]
        cost_ns = candidates[index].cost_ns
        link.backlog.lend(cost_ns, now)
        return link, placement, cost_ns

    def _fail(self, pending: Pending, error: RequestError) -> None:
        duration = self._now() - pending.arrived_ns
        pending.counts.fail(error.word, duration)
        pending.reply.fail(pending.slot, error, pending.request_id)
        self._settle(pending, duration)

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


def _tensors(
    data: bytes, template: Template, raws: list[wire.Span]
) -> list[memoryview | bytes]:
    """The inputs' bytes in the spec's order, checked against the template."""
    plans = template.inputs
    tensors: list[memoryview | bytes] = [b""] * len(plans)
    if template.contents is not None:
        if raws:
            raise InvalidRequest("inputs come either in raw_input_contents or typed, not both")
        for plan, content in zip(plans, template.contents, strict=True):
            tensors[plan.position] = content
        return tensors
    if len(raws) != len(plans):
        raise InvalidRequest(
            f"{len(raws)} raw_input_contents came for {len(plans)} inputs; "
            f"each input needs one, in their order"
        )
    view = memoryview(data)
    for plan, (start, end) in zip(plans, raws, strict=True):
        if end - start != plan.size:
            check_size(plan.name, plan.datatype, plan.shape, view[start:end])
        tensors[plan.position] = view[start:end]
    return tensors


def _whole_shape(template: Template, block: OutputBlock, rows: int) -> tuple[int, ...]:
    if template.spec.variants[template.route.variant].max_batch:
        return (rows, *block.shape)
    return block.shape


def _earlier(one: int, other: int) -> int:
    """The earlier of two deadlines, where 0 is none."""
    return min(one, other) if one and other else one or other

