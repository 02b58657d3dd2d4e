"""Leases: a batch's blocks are free once every reader has read, or died."""

from collections.abc import Iterator

import pytest

from trtserve.ipc.channel import Channel
from trtserve.worker.leases import Leases
from trtserve.worker.link import FrontEndLink
from trtserve.worker.output import OutputArena


@pytest.fixture
def outputs() -> Iterator[OutputArena]:
    arena = OutputArena.create(1 << 16)
    yield arena
    arena.close()


@pytest.fixture
def readers() -> Iterator[list[FrontEndLink]]:
    """Two front ends."""
    channels = [channel for _ in range(2) for channel in Channel.pair()]
    yield [FrontEndLink(f"front end {index}", channels[2 * index]) for index in range(2)]
    for channel in channels:
        channel.close()


def blocks(outputs: OutputArena, count: int) -> tuple[int, ...]:
    return tuple(outputs.allocate(100) for _ in range(count))


def test_blocks_are_free_when_the_last_reader_is_done(outputs, readers):
    leases = Leases(outputs)
    lease = leases.lend(blocks(outputs, 2), readers)
    other = leases.lend(blocks(outputs, 1), readers[:1])
    assert lease != other
    leases.release(lease, readers[0])
    leases.release(lease, readers[0])  # again: nothing
    assert outputs.statistics().blocks == 3
    leases.release(lease, readers[1])
    assert outputs.statistics().blocks == 1
    leases.release(lease, readers[1])  # long gone: nothing
    leases.release(other, readers[1])  # not its reader: nothing
    assert len(leases) == 1
    leases.release(other, readers[0])
    assert outputs.statistics().blocks == len(leases) == 0


def test_blocks_that_nobody_reads_are_free_at_once(outputs):
    leases = Leases(outputs)
    leases.lend(blocks(outputs, 2), [])
    assert outputs.statistics().blocks == len(leases) == 0


def test_the_dead_read_no_more(outputs, readers):
    leases = Leases(outputs)
    leases.lend(blocks(outputs, 1), readers[:1])
    shared = leases.lend(blocks(outputs, 1), readers)
    leases.drop_reader(readers[0])
    assert len(leases) == 1
    leases.drop_reader(readers[0])
    leases.release(shared, readers[1])
    assert outputs.statistics().blocks == 0
