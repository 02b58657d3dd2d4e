"""Everything that crosses a process border: typed, frozen, validated on arrival.

Three conversations. A front end and a worker share the *data* channel: the front end lends
blocks of its arena with Submit, the worker answers with Done (lending blocks of its own arena
until Release) or Failed. The supervisor and each child share the *control* channel. Messages
are MessagePack arrays (no field names), several to a datagram. A descriptor travels with the
messages that say so.

Ids are chosen by the sender: a request's by its front end, a lease's and a variant's by the
worker. They mean something on one channel only.
"""

import msgspec

from trtserve.model.spec import ModelState, Shape, VersionSpec

Bucket = tuple[Shape, ...]
"""The shapes of all inputs, in their order, without the batch dimension where there is one.
Requests share a batch only if they agree in variant and bucket."""


class Message(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The base of all messages."""


# --- data: front end to worker -----------------------------------------------------------


class Attach(Message, frozen=True, tag=1):
    """The first message each way. Carries the descriptor of the sender's arena."""

    arena_bytes: int


class Submit(Message, frozen=True, tag=2):
    """Run this request. Its blocks are lent until Done, Failed, or the worker is reaped.

    `inputs` has (offset, bytes) in the sender's arena for each input. `outputs` are the indices
    of the outputs that are wanted. `deadline_ns` 0: none. `priority` 0: the model's default,
    else 1 is the most urgent.
    """

    id: int
    variant: int
    bucket: Bucket
    rows: int
    inputs: tuple[tuple[int, int], ...]
    outputs: tuple[int, ...]
    arrived_ns: int
    deadline_ns: int = 0
    priority: int = 0


class Trace(Message, frozen=True, tag=5):
    """Send Traced for every batch from now on, or no more."""

    on: bool


class Cancel(Message, frozen=True, tag=3):
    """The callers of these requests are gone. Each is still answered, with Failed or Done."""

    ids: tuple[int, ...]


class Release(Message, frozen=True, tag=4):
    """The outputs of these leases were read."""

    leases: tuple[int, ...]


# --- data: worker to front end -----------------------------------------------------------


class OutputBlock(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One output of a batch: the pieces of its requests one after the other from `offset` on.

    `shape` is one row's where the variant is batched, else the whole shape. `sizes` has the
    bytes of each request's piece.
    """

    index: int
    shape: Shape
    offset: int
    sizes: tuple[int, ...]


class Timing(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """How one batch went. `started_ns` is when it left the queue; stages in nanoseconds.

    `backlog_ns` is the lane time that everything which waits or runs on the worker should still
    take, whoever asked for it.
    """

    lane: int
    requests: int
    rows: int
    started_ns: int
    stage_ns: int
    h2d_ns: int
    compute_ns: int
    d2h_ns: int
    backlog_ns: int = 0


class Done(Message, frozen=True, tag=10):
    """Requests of one batch that succeeded, with their rows and outputs, under one lease."""

    lease: int
    ids: tuple[int, ...]
    rows: tuple[int, ...]
    outputs: tuple[OutputBlock, ...]
    timing: Timing


class Failed(Message, frozen=True, tag=11):
    """Requests that failed for one reason. `word` names the class in errors.py."""

    ids: tuple[int, ...]
    word: str
    message: str
    retry_after_ms: int | None = None


class ModelUpdate(Message, frozen=True, tag=12):
    """The state of one version on this worker, to front ends and to the supervisor.

    `spec` is None until the engines were read. `variant_ids` are in the order of the spec's
    variants. `costs` are (variant id, bucket, nanoseconds a row), measured at warm-up. `lanes`
    is how many of its batches may run at once.
    """

    model: str
    version: int
    state: ModelState
    reason: str = ""
    spec: VersionSpec | None = None
    variant_ids: tuple[int, ...] = ()
    costs: tuple[tuple[int, Bucket, int], ...] = ()
    load_seconds: float = 0.0
    warnings: tuple[str, ...] = ()
    where: str = ""
    lanes: int = 1

    @property
    def full_reason(self) -> str:
        """The reason with the file or line it is about: for the operator, not for clients."""
        return f"{self.where}: {self.reason}" if self.where else self.reason


class Costs(Message, frozen=True, tag=13):
    """Measured costs that have changed: (variant id, bucket, nanoseconds a row)."""

    entries: tuple[tuple[int, Bucket, int], ...]


class Settled(Message, frozen=True, tag=14):
    """The worker has tried to load every model that it found: later updates are changes."""

    models: int


class TracedBatch(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One batch as a lane ran it. Times on the host's monotonic clock; durations in nanoseconds.

    `requests` are (front end, its id, arrived_ns). It left the queue at `started_ns`; the lane
    began to gather at `began_ns`, and the four stages follow one another from there. `rows` came
    from clients; the engine ran `padded` rows. `error` is the failure's text, "" without one.
    """

    id: int
    model: str
    version: int
    variant: str
    bucket: Bucket
    lane: int
    rows: int
    padded: int
    requests: tuple[tuple[str, int, int], ...]
    started_ns: int
    began_ns: int
    stage_ns: int
    h2d_ns: int
    compute_ns: int
    d2h_ns: int
    error: str = ""


class Traced(Message, frozen=True, tag=15):
    """Batches that finished while Trace was on."""

    device: str
    batches: tuple[TracedBatch, ...]


# --- control: supervisor to child --------------------------------------------------------


class Start(Message, frozen=True, tag=20):
    """The first message to a child: which one it is, and the settings as JSON.

    `device` is a worker's: `cpu`, `cuda:0` and so on.
    """

    index: int
    name: str
    settings: bytes
    device: str = ""


class Connect(Message, frozen=True, tag=21):
    """A data channel to `peer`, a new process. Carries the channel's descriptor."""

    peer: str


class Reaped(Message, frozen=True, tag=22):
    """`peer` is dead and reaped: it touches no memory any more, its blocks may be reused.

    `hopeless`: it keeps dying; do not wait for the next one.
    """

    peer: str
    hopeless: bool = False


class Poll(Message, frozen=True, tag=23):
    """Answer with a Heartbeat of this token now."""

    token: int


class Drain(Message, frozen=True, tag=24):
    """Say not-ready, and go on serving."""


class Stop(Message, frozen=True, tag=25):
    """Accept nothing new, finish what is in flight within the time, then exit 0."""

    grace_seconds: float


# --- control: child to supervisor --------------------------------------------------------


class CounterSample(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A counter's or gauge's value. Names and labels are those of metrics.py."""

    name: str
    labels: tuple[str, ...]
    value: float


class HistogramSample(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A histogram: observations in each bucket (not cumulative, the last is +Inf), their sum."""

    name: str
    labels: tuple[str, ...]
    counts: tuple[int, ...]
    total: float


class Statistics(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Everything that one process, or all together, has counted since its start."""

    counters: tuple[CounterSample, ...] = ()
    gauges: tuple[CounterSample, ...] = ()
    histograms: tuple[HistogramSample, ...] = ()


class Heartbeat(Message, frozen=True, tag=30):
    """Alive. Sent every second, and as the answer to Poll with its token (else 0)."""

    token: int
    statistics: Statistics


class Listening(Message, frozen=True, tag=31):
    """A front end serves these addresses."""

    addresses: tuple[str, ...]


class Fatal(Message, frozen=True, tag=32):
    """The child can not go on, and why: shown to the operator before it exits."""

    problem: str
    cure: str = ""


class StatisticsRequest(Message, frozen=True, tag=33):
    """A front end asks for everybody's statistics (for ModelStatistics)."""

    token: int


class StatisticsReply(Message, frozen=True, tag=34):
    """The supervisor's answer: the sums over all processes, the dead ones included."""

    token: int
    statistics: Statistics


AnyMessage = (
    Attach | Submit | Trace | Cancel | Release | Done | Failed | ModelUpdate | Costs | Settled
    | Traced
    | Start | Connect | Reaped | Poll | Drain | Stop
    | Heartbeat | Listening | Fatal | StatisticsRequest | StatisticsReply
)
