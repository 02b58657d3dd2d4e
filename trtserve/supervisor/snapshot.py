"""What the daemon is at one moment: frozen, so that other threads may read it."""

from collections.abc import Iterable, Set
from dataclasses import dataclass

from trtserve.ipc.message import ModelUpdate
from trtserve.ipc.statistics import Statistics
from trtserve.model.spec import ModelState
from trtserve.supervisor.child import ChildState
from trtserve.supervisor.post import Post
from trtserve.supervisor.role import Kind
from trtserve.supervisor.status_watch import Watched


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where the daemon listens: `HOST:PORT` for gRPC and HTTP, and a Unix socket's path."""

    grpc: str
    http: str
    socket: str | None = None


@dataclass(frozen=True, slots=True)
class ProcessView:
    """One child; `pid` is None while nobody plays the role."""

    name: str
    kind: Kind
    state: ChildState
    pid: int | None
    restarts: int
    hopeless: bool


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The whole daemon. `not_ready` has one reason for each thing that is missing.

    `models` are the updates of all workers, in the order of names and versions. `settled`:
    every front end listens and every worker has tried to load all its models. `watched` is there
    for who looks at the status page.
    """

    addresses: Addresses
    settled: bool
    not_ready: tuple[str, ...]
    processes: tuple[ProcessView, ...]
    models: tuple[ModelUpdate, ...]
    statistics: Statistics
    watched: Watched | None = None

    @property
    def ready(self) -> bool:
        """Whether everything that should serve does."""
        return not self.not_ready


def settled(posts: Iterable[Post]) -> bool:
    """Whether every front end listens and every worker has tried to load all its models."""
    return all(
        post.settled if post.role.kind is Kind.WORKER else bool(post.addresses) for post in posts
    )


def not_ready(
    posts: Iterable[Post], *, stopping: bool, wanted: Set[str] | None = None
) -> tuple[str, ...]:
    """Why the daemon is not ready; () when it is.

    Strict, as Triton is by default: one model that should serve and does not makes the daemon
    not ready, though it serves the others. Those that should are `wanted`; None: all there are.
    """
    posts = list(posts)
    reasons = ["the daemon is stopping"] if stopping else []
    for post in posts:
        name = post.role.name
        if post.child is None:
            keeps = " (it keeps dying)" if post.hopeless else ""
            reasons.append(f"{name} does not run{keeps}")
        elif post.role.kind is Kind.FRONT_END:
            if not post.addresses:
                reasons.append(f"{name} does not listen yet")
        elif not post.settled:
            reasons.append(f"{name} is loading models")
        reasons += [
            f"model {update.model} version {update.version} is {update.state} on {name}"
            + (f": {update.full_reason}" if update.full_reason else "")
            for _, update in sorted(post.models.items())
            if update.state is not ModelState.READY and (wanted is None or update.model in wanted)
        ]
    if settled(posts):
        known = {update.model for post in posts for update in post.models.values()}
        reasons += [
            f"model {model} is not loaded yet" for model in sorted((wanted or set()) - known)
        ]
    return tuple(reasons)


def view(post: Post) -> ProcessView:
    """What others see of a post."""
    pid = post.child.pid if post.child is not None else None
    return ProcessView(
        post.role.name, post.role.kind, post.state, pid, post.restarts, post.hopeless
    )


def models(posts: Iterable[Post]) -> tuple[ModelUpdate, ...]:
    """The models of all workers, in the order of names and versions."""
    updates = [update for post in posts for update in post.models.values()]
    return tuple(sorted(updates, key=lambda update: (update.model, update.version)))
