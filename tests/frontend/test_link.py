"""A front end's side of a worker: greeting, arenas, releases."""

import os

from tests.frontend.stand import WorkerSide
from trtserve.frontend.link import WorkerLink
from trtserve.ipc.arena import Arena
from trtserve.ipc.channel import Channel
from trtserve.ipc.message import Release


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_both_sides_see_each_others_memory_and_nothing_stays_open():
    before = open_files()
    arena = Arena.create(1 << 16, "front end")
    ours, theirs = Channel.pair()
    link = WorkerLink("w", ours)
    link.open(arena)
    assert link.flush()
    worker = WorkerSide(theirs)
    assert ours.receive()
    link.attach()
    assert worker.read() == []
    assert worker.inputs is not None
    arena.view[3] = 77
    worker.arena.view[4] = 88
    assert worker.inputs.view[3] == 77
    assert link.view[4] == 88
    link.close()
    link.close()
    worker.die()
    arena.close()
    assert open_files() == before


def test_releases_of_one_turn_leave_in_one_message():
    ours, theirs = Channel.pair()
    link = WorkerLink("w", ours)
    for lease in (4, 5, 9):
        link.release(lease)
    assert link.flush()
    assert theirs.receive() == [Release((4, 5, 9))]
    assert link.flush()
    assert theirs.receive() == []
    link.close()
    theirs.close()
