import threading
from collections.abc import Iterator

import pytest

from trtserve.errors import ExecutionFailed, Overloaded
from trtserve.ipc.arena import Arena
from trtserve.worker.output import OutputArena


@pytest.fixture
def outputs() -> Iterator[OutputArena]:
    arena = OutputArena.create(64 * 1024)
    yield arena
    arena.close()
    arena.close()


def test_blocks_are_lent_and_taken_back(outputs):
    offset = outputs.allocate(1000)
    assert outputs.statistics().used == 1024
    outputs.view[offset : offset + 4] = b"good"
    reader = Arena.attach(outputs.fd)
    assert bytes(reader.view[offset : offset + 4]) == b"good"
    outputs.free(offset)
    assert outputs.statistics().blocks == 0
    with pytest.raises(KeyError):
        outputs.free(offset)


def test_a_full_arena_says_try_again(outputs):
    blocks = [outputs.allocate(16 * 1024) for _ in range(4)]
    with pytest.raises(Overloaded, match="are read more slowly") as caught:
        outputs.allocate(1)
    assert caught.value.retry_after_ms
    outputs.free(blocks[0])
    outputs.allocate(1)


def test_what_never_fits_is_no_overload(outputs):
    with pytest.raises(ExecutionFailed, match="Set arena_bytes higher"):
        outputs.allocate(64 * 1024 + 1)


def test_an_attached_arena_can_not_be_allocated_in(outputs):
    with pytest.raises(ValueError, match="has created"):
        OutputArena(Arena.attach(outputs.fd))


def test_several_threads_never_share_a_block(outputs):
    held: set[int] = set()
    errors: list[str] = []

    def use() -> None:
        for _ in range(2000):
            offset = outputs.allocate(256)
            if offset in held:
                errors.append(f"{offset} was lent twice")
            held.add(offset)
            held.remove(offset)
            outputs.free(offset)

    threads = [threading.Thread(target=use) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert outputs.statistics().blocks == 0
