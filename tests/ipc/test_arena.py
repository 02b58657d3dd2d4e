"""Shared memory: blocks never overlap, everything comes back, views see the same bytes."""

import os
import random

import pytest

from trtserve.ipc.arena import Allocator, Arena

MIN = 256


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


def blocks_of(allocator: Allocator, sizes: list[int]) -> list[int]:
    offsets = [allocator.allocate(size) for size in sizes]
    assert None not in offsets
    return [offset for offset in offsets if offset is not None]


@pytest.mark.parametrize("seed", range(4))
def test_random_use_never_overlaps_and_everything_comes_back(seed):
    rng = random.Random(seed)
    capacity = 1 << 20
    allocator = Allocator(capacity)
    lent: dict[int, int] = {}
    refused = 0
    for _ in range(3000):
        if lent and rng.random() < 0.45:
            offset = rng.choice(list(lent))
            del lent[offset]
            allocator.free(offset)
        else:
            size = rng.choice([0, 1, 255, 256, 257, 5000, 40_000, rng.randrange(1, 1 << 17)])
            found = allocator.allocate(size)
            if found is None:
                refused += 1
                continue
            offset = found
            block = max(MIN, 1 << (size - 1).bit_length()) if size else MIN
            assert offset % block == 0
            assert offset + block <= capacity
            assert all(offset + block <= start or start + length <= offset
                       for start, length in lent.items())
            lent[offset] = block
        assert allocator.statistics().blocks == len(lent)
        assert allocator.statistics().used == sum(lent.values())
    assert refused  # the arena was full at times, so merging was needed
    for offset in lent:
        allocator.free(offset)
    assert allocator.statistics().used == 0
    assert allocator.allocate(capacity) == 0


def test_a_fragmented_arena_is_whole_again_once_all_is_free():
    allocator = Allocator(1 << 16)
    offsets = blocks_of(allocator, [MIN] * 256)
    assert sorted(offsets) == list(range(0, 1 << 16, MIN))
    assert allocator.allocate(1) is None
    for offset in offsets[::2]:
        allocator.free(offset)
    assert allocator.allocate(MIN + 1) is None  # no two neighbours are free
    for offset in offsets[1::2]:
        allocator.free(offset)
    assert allocator.allocate(1 << 16) == 0


def test_the_block_freed_last_goes_out_first():
    allocator = Allocator(1 << 16)
    offsets = blocks_of(allocator, [1000] * 3)
    for offset in offsets:
        allocator.free(offset)
    assert blocks_of(allocator, [900, 1024, 513]) == offsets[::-1]


def test_a_size_beyond_the_arena_is_refused_and_costs_nothing():
    allocator = Allocator(1 << 16)
    assert allocator.allocate((1 << 16) + 1) is None
    assert allocator.allocate(1 << 60) is None
    assert allocator.statistics().blocks == 0


def test_freeing_what_is_not_lent_is_an_error():
    allocator = Allocator(1 << 16)
    (offset,) = blocks_of(allocator, [10])
    allocator.free(offset)
    with pytest.raises(KeyError):
        allocator.free(offset)
    with pytest.raises(KeyError):
        allocator.free(12345)


def test_a_capacity_that_is_no_power_of_two_is_rounded_down():
    assert Allocator(1000).statistics().capacity == 512


def test_both_sides_of_an_arena_see_the_same_bytes():
    before = open_files()
    ours = Arena.create(5000, "test")
    theirs = Arena.attach(os.dup(ours.fd))
    assert ours.size == theirs.size == 8192
    assert ours.allocator is not None
    assert theirs.allocator is None
    ours.view[100:105] = b"hello"
    assert bytes(theirs.view[100:105]) == b"hello"
    assert ours.address != theirs.address
    assert ours.address % 4096 == 0
    ours.close()
    theirs.view[0:2] = b"ok"  # the memory lives on with the other side
    theirs.close()
    assert open_files() == before


def test_closing_twice_is_harmless_even_while_a_view_is_held():
    before = open_files()
    arena = Arena.create(4096, "test")
    held = arena.view[:3]
    held[:] = b"abc"
    arena.close()
    arena.close()
    assert bytes(held) == b"abc"
    held.release()
    del arena
    assert open_files() == before


def test_an_untouched_arena_takes_no_memory():
    arena = Arena.create(1 << 30, "large")
    assert os.fstat(arena.fd).st_blocks == 0
    arena.view[123_456] = 1
    assert os.fstat(arena.fd).st_blocks * 512 == 4096
    arena.close()
