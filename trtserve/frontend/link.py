"""A front end's side of one worker process."""

from trtserve.frontend.choice import Backlog
from trtserve.frontend.door import Door
from trtserve.ipc.arena import Arena
from trtserve.ipc.channel import Channel
from trtserve.ipc.message import Attach, Release


class WorkerLink:
    """One incarnation of a worker: its channel, its arena once attached, what is lent to it.

    `lent` counts the requests it has; `backlog` is the time that these and others' should take,
    kept only where there is a choice of workers; `door` keeps out what it would refuse. `alive`
    ends with its end of file. `open` greets it with our arena.
    """

    def __init__(self, peer: str, channel: Channel) -> None:
        self.peer = peer
        self.channel = channel
        self.lent = 0
        self.backlog = Backlog()
        self.door = Door()
        self.alive = True
        self._arena: Arena | None = None
        self._released: list[int] = []

    def open(self, arena: Arena) -> None:
        """Lend our arena to the worker."""
        self.channel.send(Attach(arena.size), arena.fd)

    def attach(self) -> None:
        """Map the worker's arena, whose descriptor has come."""
        self._arena = Arena.attach(self.channel.take_fd())

    @property
    def view(self) -> memoryview:
        """The worker's arena."""
        assert self._arena is not None  # a worker attaches before it answers
        return self._arena.view

    def release(self, lease: int) -> None:
        """Say, with the next flush, that the outputs of a lease were read."""
        self._released.append(lease)

    def flush(self) -> bool:
        """Send what is queued; False when the socket is full."""
        if self._released:
            self.channel.send(Release(tuple(self._released)))
            self._released.clear()
        return self.channel.flush()

    def close(self) -> None:
        """Close the channel and unmap the arena. Twice is harmless."""
        self.channel.close()
        if self._arena is not None:
            self._arena.close()
