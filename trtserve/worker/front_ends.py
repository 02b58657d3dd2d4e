"""The front ends of a worker: who is there, what they ask for, and what becomes of it when one
dies."""

import logging
import selectors
from collections.abc import Iterator

from trtserve import clock
from trtserve.device.interface import Device
from trtserve.errors import RequestError, Unavailable
from trtserve.ipc import message as m
from trtserve.ipc.channel import Channel
from trtserve.worker.answer import failed
from trtserve.worker.batcher import Batcher
from trtserve.worker.leases import Leases
from trtserve.worker.link import FrontEndLink
from trtserve.worker.models import Models
from trtserve.worker.outbox import Outbox
from trtserve.worker.output import OutputArena
from trtserve.worker.pinning import pin
from trtserve.worker.request import Request
from trtserve.worker.tracer import Tracer

log = logging.getLogger(__name__)

_MAX_READS = 16
"""Datagrams read from one front end before the others, and the lanes, get their turn."""


class FrontEnds:
    """All front ends that live, each on a link of its own, and the outputs that are lent to them.

    Iterating gives the links. Messages are queued until `send`.
    """

    def __init__(
        self, device: Device, outputs: OutputArena, batcher: Batcher, models: Models,
        tracer: Tracer, selector: selectors.BaseSelector, outbox: Outbox,
    ) -> None:
        self.leases = Leases(outputs)
        self._device = device
        self._outputs = outputs
        self._batcher = batcher
        self._models = models
        self._residents = models.residents
        self._tracer = tracer
        self._selector = selector
        self._outbox = outbox
        self._links: dict[str, FrontEndLink] = {}

    def __iter__(self) -> Iterator[FrontEndLink]:
        return iter(self._links.values())

    def __len__(self) -> int:
        return len(self._links)

    @property
    def waiting(self) -> bool:
        """Whether any request waits or runs."""
        return any(link.requests for link in self._links.values())

    def tell(self, message: m.AnyMessage) -> None:
        """Queue a message for all of them."""
        for link in self._links.values():
            link.channel.send(message)

    def send(self) -> None:
        """Send what is queued."""
        for link in self._links.values():
            self._outbox.send(link.channel)

    def connect(self, peer: str, channel: Channel) -> None:
        """A front end is there, or another one in its place: tell it what this worker has."""
        link = FrontEndLink(peer, channel)
        self.reaped(peer)
        self._links[peer] = link
        self._selector.register(link.channel, selectors.EVENT_READ, lambda: self._read(link))
        link.channel.send(m.Attach(self._outputs.size), self._outputs.fd)
        for update in self._residents.updates():
            link.channel.send(update)
        if self._models.settled is not None:
            link.channel.send(m.Settled(self._models.settled))

    def reaped(self, peer: str) -> None:
        """That front end is dead, if there was one."""
        link = self._links.get(peer)
        if link is not None:
            self._lose(link)

    def refuse(self, request: Request, error: RequestError) -> None:
        """Answer a request that left the queue without running."""
        link = request.owner
        link.requests.pop(request.submit.id, None)
        link.channel.send(failed((request.submit.id,), error))

    def close(self, link: FrontEndLink) -> None:
        """Unmap the arena of a front end that is dead and that no lane reads any more."""
        if link.arena is not None and link.pinned:
            self._device.detach(link.arena.address)
        link.close()

    def _read(self, link: FrontEndLink) -> None:
        if not link.alive:
            return  # lost in this very turn: its socket may be closed
        for _ in range(_MAX_READS):
            messages = link.channel.receive()
            if messages is None:
                self._lose(link)
                return
            if not messages:
                return
            now = clock.now_ns()
            for message in messages:
                if type(message) is m.Submit:
                    self._submit(link, message, now)
                elif type(message) is m.Release:
                    for lease in message.leases:
                        self.leases.release(lease, link)
                elif type(message) is m.Cancel:
                    for number in message.ids:
                        if number in link.requests:
                            self._batcher.cancel(link.requests[number])
                elif type(message) is m.Trace:
                    self._tracer.trace(link.channel, message.on)
                elif type(message) is m.Retired:
                    link.retiring.difference_update(message.variants)
                elif type(message) is m.Attach:
                    arena = link.attach()
                    link.pinned = pin(self._device, arena.address, arena.size)
                else:
                    log.error("unexpected from a front end: %s", type(message).__name__)

    def _submit(self, link: FrontEndLink, submit: m.Submit, now: int) -> None:
        request = Request(submit, link)
        try:
            if submit.variant not in self._residents.variants:
                raise Unavailable("the model was unloaded while the request was on its way")
            self._batcher.add(request, now)
        except RequestError as error:
            link.channel.send(failed((submit.id,), error))
        else:
            link.requests[submit.id] = request

    def _lose(self, link: FrontEndLink) -> None:
        """That front end is dead: forget its requests; unmap its arena once no lane reads it."""
        if not link.alive:
            return
        link.alive = False
        self._selector.unregister(link.channel)
        self._outbox.forget(link.channel)
        if self._links.get(link.peer) is link:
            del self._links[link.peer]
        self._batcher.drop_owner(link)
        self.leases.drop_reader(link)
        self._tracer.trace(link.channel, on=False)
        link.requests.clear()
        if not link.running:
            self.close(link)
