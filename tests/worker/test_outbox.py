"""Sockets that are full are watched until they take more."""

import selectors
from collections.abc import Iterator

import pytest

from trtserve.ipc.channel import Channel
from trtserve.ipc.message import Cancel
from trtserve.worker.outbox import Outbox

MESSAGE = Cancel(tuple(range(10_000)))


class Wire:
    """A channel whose other end reads when it is told to, and the outbox that serves it."""

    def __init__(self) -> None:
        self.ours, self.theirs = Channel.pair()
        self.selector = selectors.DefaultSelector()
        self.outbox = Outbox(self.selector)
        self.selector.register(self.ours, selectors.EVENT_READ, "read it")

    @property
    def watched(self) -> int:
        return self.selector.get_key(self.ours).events

    def read(self) -> int:
        """How many messages have come."""
        total = 0
        while messages := self.theirs.receive():
            total += len(messages)
        return total

    def close(self) -> None:
        self.selector.close()
        self.ours.close()
        self.theirs.close()


@pytest.fixture
def wire() -> Iterator[Wire]:
    found = Wire()
    yield found
    found.close()


def test_what_is_queued_leaves_at_once(wire):
    wire.ours.send(MESSAGE)
    wire.outbox.send(wire.ours)
    assert wire.read() == 1
    assert wire.watched == selectors.EVENT_READ


def test_a_full_socket_is_watched_until_everything_has_left(wire):
    sent = 0
    while wire.watched == selectors.EVENT_READ:
        wire.ours.send(MESSAGE)
        wire.outbox.send(wire.ours)
        sent += 1
        assert sent < 10_000
    assert wire.watched == selectors.EVENT_READ | selectors.EVENT_WRITE
    assert wire.selector.get_key(wire.ours).data == "read it"
    wire.outbox.send(wire.ours)  # still full
    assert wire.watched == selectors.EVENT_READ | selectors.EVENT_WRITE
    read = wire.read()
    wire.outbox.send(wire.ours)
    assert wire.watched == selectors.EVENT_READ
    assert read + wire.read() == sent


def test_a_channel_that_is_gone_is_forgotten(wire):
    while wire.watched == selectors.EVENT_READ:
        wire.ours.send(MESSAGE)
        wire.outbox.send(wire.ours)
    wire.selector.unregister(wire.ours)
    wire.outbox.forget(wire.ours)
    wire.read()
    # Another use of it starts anew: it is not believed to be watched for writing.
    wire.selector.register(wire.ours, selectors.EVENT_READ)
    wire.outbox.send(wire.ours)
    assert wire.watched == selectors.EVENT_READ
