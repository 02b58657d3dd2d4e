"""One request that a front end has not answered yet."""

from trtserve.frontend.counts import VersionCounts
from trtserve.frontend.link import WorkerLink
from trtserve.frontend.reply import Reply
from trtserve.frontend.template import Template
from trtserve.frontend.tracing import Trace


class Pending:
    """A request in flight. Times in nanoseconds, 0 for no deadline.

    `link` is the worker that has it, None while it is parked; `cost_ns` is what it counts in
    that worker's backlog. `attempts` counts the workers that died with it. `trace` is None where
    it is not traced.
    """

    __slots__ = (
        "answered", "arrived_ns", "attempts", "block", "cancelled", "cost_ns", "counts",
        "deadline_ns", "id", "inputs", "link", "reply", "request_id", "slot", "template", "trace",
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
        self.trace: Trace | None = None
        self.counts: VersionCounts
