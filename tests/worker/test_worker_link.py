"""A worker's side of a front end: nothing outside the arena is ever an address."""

import os

import pytest

from trtserve.errors import ProtocolError
from trtserve.ipc.arena import Arena
from trtserve.ipc.channel import Channel
from trtserve.ipc.message import Attach, Submit
from trtserve.worker.link import FrontEndLink


def submit(*inputs: tuple[int, int]) -> Submit:
    return Submit(1, 1, ((4,),), 1, inputs, (0,), 0)


def test_addresses_lie_in_the_arena_that_came():
    before = len(os.listdir("/proc/self/fd"))
    ours, theirs = Channel.pair()
    arena = Arena.create(4096, "front end")
    theirs.send(Attach(arena.size), arena.fd)
    theirs.flush()
    link = FrontEndLink("f", ours)
    with pytest.raises(ProtocolError, match="before the arena"):
        link.addresses(submit((0, 16)))
    assert ours.receive() == [Attach(4096)]
    mapped = link.attach()
    assert link.addresses(submit((0, 16), (256, 3840))) == (
        (mapped.address, 16), (mapped.address + 256, 3840),
    )
    for wrong in ((-1, 4), (0, -1), (4096, 1), (256, 3841), (0, 1 << 62)):
        with pytest.raises(ProtocolError, match="outside its arena"):
            link.addresses(submit((0, 16), wrong))
    link.close()
    link.close()
    theirs.close()
    arena.close()
    assert len(os.listdir("/proc/self/fd")) == before
