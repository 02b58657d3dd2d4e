"""Everything that crosses a process border: typed, frozen, validated on arrival.

Two channels. A front end and a worker share the *data* channel: the front end lends blocks of its
arena with Submit, the worker answers with Done (lending blocks of its own arena until Release) or
Failed. The supervisor and each child share the *control* channel. Messages are MessagePack arrays
(no field names), several to a datagram. A descriptor travels with the messages that say so.

Ids are chosen by the sender: a request's by its front end, a lease's and a variant's by the
worker. They mean something on one channel only.
"""

import msgspec

from trtserve.ipc.recording import TracedBatch
from trtserve.ipc.statistics import Statistics
from trtserve.model.cost import Cost
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
    """Send Traced for every batch from now on, or no more. From the supervisor too."""

    on: bool


class Cancel(Message, frozen=True, tag=3):
    """The callers of these requests are gone. Each is still answered, with Failed or Done."""

    ids: tuple[int, ...]


class Release(Message, frozen=True, tag=4):
    """The outputs of these leases were read."""

    leases: tuple[int, ...]


class Retired(Message, frozen=True, tag=6):
    """The answer to Retire: no Submit to these variants comes after this."""

    variants: tuple[int, ...]


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
    take, whoever asked for it. `began_ns` is when the lane began to gather; the stages follow one
    another from there.
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
    began_ns: int = 0


class Done(Message, frozen=True, tag=10):
    """Requests of one batch that succeeded, with their rows and outputs, under one lease."""

    lease: int
    ids: tuple[int, ...]
    rows: tuple[int, ...]
    outputs: tuple[OutputBlock, ...]
    timing: Timing


class Closed(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """For whom there is no room, so that front ends need not ask: for `for_ns` from now on, every
    request of the same variant and bucket and at least as many rows that has less than `need_ns`
    left until its deadline. `need_ns` 0: every one, whatever its deadline."""

    for_ns: int
    need_ns: int = 0


class Failed(Message, frozen=True, tag=11):
    """Requests that failed for one reason. `word` names the class in errors.py. `closed` comes
    with a refusal that will be that of others, too."""

    ids: tuple[int, ...]
    word: str
    message: str
    retry_after_ms: int | None = None
    closed: Closed | None = None


class LoadMemory(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The memory that loading a version took of a device (on the CPU of the worker's process):
    what stayed in use, and the most that was while it was loaded."""

    device: str
    resident_bytes: int
    peak_bytes: int


class ModelUpdate(Message, frozen=True, tag=12):
    """The state of one version on this worker, to front ends and to the supervisor.

    `spec` is None until the engines were read. `variant_ids` are in the order of the spec's
    variants. `costs` are (variant id, bucket, cost), measured at warm-up. `lanes` is how many of
    its batches may run at once. `gone`: this worker was told to unload it, and has it no more.
    """

    model: str
    version: int
    state: ModelState
    reason: str = ""
    spec: VersionSpec | None = None
    variant_ids: tuple[int, ...] = ()
    costs: tuple[tuple[int, Bucket, Cost], ...] = ()
    load_seconds: float = 0.0
    warnings: tuple[str, ...] = ()
    where: str = ""
    lanes: int = 1
    gone: bool = False
    memory: LoadMemory | None = None

    @property
    def full_reason(self) -> str:
        """The reason with the file or line it is about: for the operator, not for clients."""
        return f"{self.where}: {self.reason}" if self.where else self.reason


class Retire(Message, frozen=True, tag=16):
    """These variants serve no new requests: whoever has adopted the ModelUpdates before this
    message answers with Retired, and submits none to them after it."""

    variants: tuple[int, ...]


class Costs(Message, frozen=True, tag=13):
    """Measured costs that have changed: (variant id, bucket, cost)."""

    entries: tuple[tuple[int, Bucket, Cost], ...]


class Settled(Message, frozen=True, tag=14):
    """The worker has tried to load every model that it found: later updates are changes."""

    models: int


class Traced(Message, frozen=True, tag=15):
    """Batches that finished while Trace was on."""

    device: str
    batches: tuple[TracedBatch, ...]


# --- control: supervisor to child --------------------------------------------------------


class Start(Message, frozen=True, tag=20):
    """The first message to a child: which one it is, and the settings as JSON.

    `device` is a worker's: `cpu`, `cuda:0` and so on. `models` are (name, folder) of the models
    that it loads; None: all in the repository. `files` are a front end's (security/keeper.py);
    they hold a key, so this is never to be printed.
    """

    index: int
    name: str
    settings: bytes
    device: str = ""
    models: tuple[tuple[str, str], ...] | None = None
    files: bytes = b""


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


class LoadModel(Message, frozen=True, tag=26):
    """Load a model from a folder, beside what serves, and answer with Staged.

    Nothing changes for requests until CommitModel; after AbandonModel nothing is left of it.
    `order` is the supervisor's number for all messages about this one change.
    """

    order: int
    model: str
    folder: str


class CommitModel(Message, frozen=True, tag=27):
    """Switch to what the order loaded, tell everybody, drain and free what served before."""

    order: int


class AbandonModel(Message, frozen=True, tag=28):
    """Free what the order loaded: another worker could not load it."""

    order: int


class UnloadModel(Message, frozen=True, tag=29):
    """Tell everybody that the model is gone, drain and free it."""

    order: int
    model: str


# --- control: child to supervisor --------------------------------------------------------


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


class Staged(Message, frozen=True, tag=35):
    """The worker's answer to LoadModel: the versions that are ready to serve. With `error` it
    could not load the model, and holds nothing of it. `where` is for the operator only."""

    order: int
    versions: tuple[int, ...] = ()
    error: str = ""
    where: str = ""


class Freed(Message, frozen=True, tag=36):
    """What CommitModel, AbandonModel or UnloadModel let go is drained and freed.

    Memory in use before the order began and after all was freed: the device's where it tells,
    else the process's resident memory.
    """

    order: int
    before_bytes: int
    after_bytes: int


class ControlRequest(Message, frozen=True, tag=37):
    """A front end asks for a model to be loaded or (`load` False) unloaded.

    `config` is the text of a config.pbtxt in place of the model's own ("": leave it); `files` are
    (path in the model's folder, content's offset and size in the descriptor's memory); a
    descriptor comes with the message if there are any.
    """

    token: int
    model: str
    load: bool
    config: str = ""
    files: tuple[tuple[str, int, int], ...] = ()


class ControlReply(Message, frozen=True, tag=38):
    """The supervisor's answer to a ControlRequest. `word` names the error's class in errors.py,
    "" for success."""

    token: int
    word: str = ""
    message: str = ""


class Wanted(Message, frozen=True, tag=39):
    """To front ends: which models should serve, so that readiness counts them and no others
    (None: all that there are), and which versions are left out, told in their worker's place."""

    models: tuple[str, ...] | None
    left_out: tuple[tuple[str, ModelUpdate], ...] = ()


AnyMessage = (
    Attach | Submit | Trace | Cancel | Release | Retired
    | Done | Failed | ModelUpdate | Costs | Settled | Traced | Retire
    | Start | Connect | Reaped | Poll | Drain | Stop
    | LoadModel | CommitModel | AbandonModel | UnloadModel
    | Heartbeat | Listening | Fatal | StatisticsRequest | StatisticsReply
    | Staged | Freed | ControlRequest | ControlReply | Wanted
)
