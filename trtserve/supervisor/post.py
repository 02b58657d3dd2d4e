"""One place in the daemon that a child fills, and another one after it when that dies."""

from trtserve.ipc.message import (
    AnyMessage,
    Drain,
    Heartbeat,
    Listening,
    ModelUpdate,
    Settled,
    Stop,
)
from trtserve.supervisor.child import Child, ChildState
from trtserve.supervisor.restart import RestartPolicy
from trtserve.supervisor.role import Role


class Post:
    """What is known about one role, across the processes that play it.

    `models` and `settled` are what the present worker reported, `addresses` what the present
    front end listens on; they go with it. `unfinished` are the reports of the last worker, if it
    died while it loaded its first models, and `had_settled` says whether it did not.
    """

    def __init__(self, role: Role) -> None:
        self.role = role
        self.policy = RestartPolicy()
        self.child: Child | None = None
        self.start_ns: int | None = 0
        self.starts = 0
        self.hopeless = False
        self.models: dict[tuple[str, int], ModelUpdate] = {}
        self.unfinished: tuple[ModelUpdate, ...] = ()
        self.settled = False
        self.had_settled = False
        self.addresses: tuple[str, ...] = ()
        self._left_out: tuple[ModelUpdate, ...] = ()

    @property
    def restarts(self) -> int:
        """How often the role was started again."""
        return max(0, self.starts - 1)

    @property
    def state(self) -> ChildState:
        """The present child's state."""
        return self.child.state if self.child is not None else ChildState.DEAD

    def filled(self, child: Child, now: int) -> None:
        """A new process plays the role."""
        self.child = child
        self.start_ns = None
        self.starts += 1
        self.policy.started(now)
        self.leave_out(self._left_out)

    def leave_out(self, updates: tuple[ModelUpdate, ...]) -> None:
        """These versions are not given to the worker, and are told of in its place, until other
        ones are."""
        for update in self._left_out:
            if self.models.get((update.model, update.version)) is update:
                del self.models[update.model, update.version]
        self._left_out = updates
        if self.child is not None:
            self.models.update({(update.model, update.version): update for update in updates})

    def emptied(self) -> None:
        """The process is gone, and what it said with it."""
        self.had_settled = self.settled
        self.unfinished = () if self.settled else tuple(self.models.values())
        self.child = None
        self.models.clear()
        self.settled = False
        self.addresses = ()

    def heard(self, message: AnyMessage) -> None:
        """Note what the child said about itself."""
        if self.child is None:
            return
        match message:
            case Heartbeat(statistics=statistics):
                self.child.statistics = statistics
            case ModelUpdate(gone=True):
                self.models.pop((message.model, message.version), None)
            case ModelUpdate():
                self.models[message.model, message.version] = message
            case Settled():
                self.settled = True
                self._serving()
            case Listening(addresses=addresses):
                self.addresses = addresses
                self._serving()

    def told(self, message: AnyMessage) -> None:
        """Note what the child was told to do."""
        if self.child is not None and isinstance(message, Drain | Stop):
            self.child.state = ChildState.DRAINING

    def _serving(self) -> None:
        if self.child is not None and self.child.state is ChildState.STARTING:
            self.child.state = ChildState.SERVING
