"""A worker's side of one front end process."""

from trtserve.errors import ProtocolError
from trtserve.ipc.arena import Arena
from trtserve.ipc.channel import Channel
from trtserve.ipc.message import Submit
from trtserve.worker.request import Request


class FrontEndLink:
    """One incarnation of a front end: its channel, its arena, its requests.

    `requests` are queued or running. `running` counts batches that read its arena: a dead front
    end's arena is unmapped only when none does. `pinned`: the device copies from it at full speed.
    `retiring` are the variants that it was told to use no more, and has not said yet that it will.
    """

    def __init__(self, peer: str, channel: Channel) -> None:
        self.peer = peer
        self.channel = channel
        self.requests: dict[int, Request] = {}
        self.retiring: set[int] = set()
        self.running = 0
        self.alive = True
        self.pinned = False
        self.arena: Arena | None = None

    def attach(self) -> Arena:
        """Map the front end's arena, whose descriptor has come."""
        self.arena = Arena.attach(self.channel.take_fd())
        return self.arena

    def addresses(self, submit: Submit) -> tuple[tuple[int, int], ...]:
        """(address, bytes) of a request's inputs. Raises ProtocolError outside the arena."""
        arena = self.arena
        if arena is None:
            raise ProtocolError("a request came before the arena it lies in")
        base, end = arena.address, arena.size
        for offset, size in submit.inputs:
            if offset < 0 or size < 0 or offset + size > end:
                raise ProtocolError("a request lies outside its arena")
        return tuple([(base + offset, size) for offset, size in submit.inputs])

    def close(self) -> None:
        """Close the channel and unmap the arena. Twice is harmless."""
        self.channel.close()
        if self.arena is not None:
            self.arena.close()
