"""What refusing a request costs trtserve's own code, at the door and by the worker.

    python -m benchmarks.refusing [--rounds 200] [--kib 1,150] [--json FILE]

One process plays both sides, over a real channel and a real arena. `worker`: the front end copies
the request into its arena and sends it, the batcher finds no room, and the refusal goes back.
`door`: the front end knows from the refusal before that there is no room. gRPC, which costs the
same either way and more than both, is left out. Blocks of rounds take turns; medians of the blocks,
with the quartiles.
"""

import argparse
import json
import logging
import statistics
from collections.abc import Callable
from pathlib import Path

import numpy as np

from tests.frontend.stand import RecordingReply, Stand, request
from trtserve.cli.output import print_table
from trtserve.clock import NS_PER_S, now_ns
from trtserve.errors import RequestError
from trtserve.ipc.message import Closed, Failed, Submit
from trtserve.model.spec import QueuePolicy
from trtserve.worker.answer import failed
from trtserve.worker.batcher import Batcher
from trtserve.worker.request import Request

BLOCKS = 21
VARIANT = 10
LONG_NS = 3600 * NS_PER_S


class Forgetful(RecordingReply):
    """A reply that keeps nothing."""

    def fail(self, slot: int, error: RequestError, request_id: bytes) -> None:
        """Forget it."""


def full_batcher() -> Batcher:
    """One that has no room for any more of the stand's first variant."""
    full = Batcher(1, default_max_queue=1)
    full.add_variant(VARIANT, "m", 1, 8, QueuePolicy())
    for number in range(2):
        full.add(Request(Submit(number, VARIANT, ((4,),), 1, (), (), 0), None), 0)
        full.next_batch(0)
    return full


class Sides:
    """A front end and a worker that has no room."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._full = full_batcher()
        self._stand = Stand(arena_bytes=2 * len(data) + (1 << 20))
        self._stand.reply = Forgetful()
        self._worker = self._stand.start_worker()

    def ask(self) -> None:
        """A request comes."""
        self._stand.dispatcher.start(self._data, (0, len(self._data)), self._stand.reply, 0, 0)

    def refuse(self) -> None:
        """A request comes, goes to the worker's batcher, and its refusal comes back."""
        self.ask()
        self._stand.links["w1"].flush()
        for submit in self._worker.submits():
            try:
                self._full.add(Request(submit, None), 0)
            except RequestError as error:
                self._worker.say(failed((submit.id,), error))
        self._stand.pump()

    def close_door(self) -> None:
        """For longer than a worker would."""
        self.ask()
        self._stand.links["w1"].flush()
        (submit,) = self._worker.submits()
        self._worker.say(Failed((submit.id,), "overloaded", "no room", 25, Closed(LONG_NS)))
        self._stand.pump()

    def end(self) -> None:
        """Close everything; nothing may be left over."""
        self._stand.close()


def block_us(what: Callable[[], None], rounds: int) -> float:
    """Microseconds that one takes, on the average."""
    started = now_ns()
    for _ in range(rounds):
        what()
    return (now_ns() - started) / rounds / 1000


def measure(kib: int, rounds: int) -> dict[str, list[float]]:
    """Microseconds of each block, for a request of that size."""
    data = request(np.zeros((1, kib * 256), np.float32)).SerializeToString()
    open_side, closed_side = Sides(data), Sides(data)
    closed_side.close_door()
    found: dict[str, list[float]] = {"worker": [], "door": []}
    for _ in range(BLOCKS):
        found["worker"].append(block_us(open_side.refuse, rounds))
        found["door"].append(block_us(closed_side.ask, rounds))
    open_side.end()
    closed_side.end()
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=200, help="of each block")
    parser.add_argument(
        "--kib", type=lambda text: [int(word) for word in text.split(",")], default=[1, 150],
        help="sizes of the request",
    )
    parser.add_argument("--json", type=Path, help="write the figures of all blocks there too")
    options = parser.parse_args()
    logging.getLogger("trtserve").addHandler(logging.NullHandler())  # the first have a line each
    found = {kib: measure(kib, options.rounds) for kib in options.kib}
    print_table(("KiB", "refused by", "us", "quartiles"), [
        (kib, who, f"{statistics.median(blocks):.1f}",
         "{:.1f} {:.1f}".format(*statistics.quantiles(blocks, n=4)[::2]))
        for kib, sides in found.items() for who, blocks in sides.items()
    ])
    if options.json is not None:
        options.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
