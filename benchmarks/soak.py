"""Whether the processes grow: models that come and go, loads that fail, streams that break.

    python -m benchmarks.soak [--rounds 1400] [--json FILE]
    python -m benchmarks.soak --rounds 120 --leak     # must be found out

Each round asks a model that stays, loads another one, asks it, has a load fail, breaks a stream
off, and unloads the other one again, all by tritonclient on the daemon's Unix socket. Memory is the
sum over all processes, each shared page counted once (Pss). Until the middle every cache and buffer
may fill; from there to the end the sum may grow by 20 MB. With `--leak` the worker keeps what it
was sent in a queue that nobody reads (benchmarks/leaky_worker.py): the check has to flag it.
"""

import argparse
import json
import statistics
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException

from benchmarks import daemon as daemons
from tests.e2e.repositories import add_plus
from trtserve.cli.output import print_line, print_table
from trtserve.clock import NS_PER_S, now_ns
from trtserve.testing import other_daemon

MAX_GROWTH = 20_000_000
"""Bytes from the middle to the end."""

LOOKS = 40
"""Measurements of the memory, evenly spread over the rounds."""

SMOOTH = 5
"""Measurements whose median stands for the middle, and for the end: garbage comes and goes."""

STAYS, COMES, BROKEN = "stays", "comes", "broken"
WIDTH = 20_000


@dataclass
class Soak:
    """What was measured: (round, bytes of each process)."""

    rounds: int
    looks: list[tuple[int, dict[str, int]]] = field(default_factory=list)
    seconds: float = 0.0

    def totals(self) -> list[int]:
        """Bytes of all processes together, in order."""
        return [sum(memory.values()) for _, memory in self.looks]

    @property
    def growth(self) -> int:
        """Bytes from the middle to the end."""
        totals = self.totals()
        middle = len(totals) // 2
        around = totals[middle - SMOOTH // 2:middle + SMOOTH // 2 + 1]
        return int(statistics.median(totals[-SMOOTH:]) - statistics.median(around))

    @property
    def grows(self) -> bool:
        """Whether it is more than what is allowed."""
        return self.growth > MAX_GROWTH


def fill(repository: Path) -> None:
    """A model that stays, one that comes and goes, one that can not be loaded."""
    add_plus(repository, STAYS)
    add_plus(repository, COMES, 2.0)
    (repository / BROKEN / "1").mkdir(parents=True)
    (repository / BROKEN / "1" / "model.onnx").write_bytes(b"this is no model")


def flags(folder: Path) -> list[str]:
    """What the daemon is started with."""
    return [
        "--devices", "cpu", "--front-ends", "1", "--socket", str(folder / "soak.sock"),
        "--model-control-mode", "explicit", "--load-models", STAYS,
    ]


def soak(daemon: daemons.Daemon, socket: Path, rounds: int) -> Soak:
    """All rounds. Raises RuntimeError if a call does what it should not."""
    found = Soak(rounds)
    began = now_ns()
    every = max(1, rounds // LOOKS)
    with triton.InferenceServerClient(f"unix:{socket}") as client:
        for number in range(1, rounds + 1):
            _round(client, socket, number)
            if number % every == 0:
                found.looks.append((number, daemon.memory()))
    found.seconds = (now_ns() - began) / NS_PER_S
    return found


def _round(client: triton.InferenceServerClient, socket: Path, number: int) -> None:
    x = np.full((1, WIDTH), number, np.float32)
    _ask(client, STAYS, x, 1.0)
    client.load_model(COMES)
    _ask(client, COMES, x, 2.0)
    try:
        client.load_model(BROKEN)
    except InferenceServerException:
        pass
    else:
        raise RuntimeError("a file that is no model was loaded")
    _broken_stream(socket, x)
    client.unload_model(COMES)


def _ask(client: triton.InferenceServerClient, model: str, x: Any, value: float) -> None:
    answer = client.infer(model, [_input(x)]).as_numpy("y")
    if not np.array_equal(answer, x + np.float32(value)):
        raise RuntimeError(f"{model} answered something else")


def _broken_stream(socket: Path, x: Any) -> None:
    """Send some requests on a stream and go away without waiting for the answers."""
    with triton.InferenceServerClient(f"unix:{socket}") as client:
        client.start_stream(lambda result, error: None)
        for _ in range(3):
            client.async_stream_infer(COMES, [_input(x)])
        client.stop_stream(cancel_requests=True)


def _input(x: Any) -> triton.InferInput:
    tensor = triton.InferInput("x", list(x.shape), "FP32")
    tensor.set_data_from_numpy(x)
    return tensor


def run(rounds: int, folder: Path, *, leak: bool = False) -> Soak:
    """Everything, with a daemon of its own."""
    fill(folder / "models")
    socket = folder / "soak.sock"
    with daemons.running(
        folder / "models", folder, *flags(folder),
        module=other_daemon.__name__ if leak else "trtserve",
        environment={other_daemon.WORKER: "benchmarks.leaky_worker:main"} if leak else {},
    ) as daemon:
        return soak(daemon, socket, rounds)


def show(found: Soak) -> None:
    """The memory of each process at the start, in the middle and at the end."""
    chosen = [found.looks[0], found.looks[len(found.looks) // 2], found.looks[-1]]
    names = sorted(chosen[-1][1])
    print_table(
        ("round", *names, "together MB"),
        [
            (str(number), *(f"{memory.get(name, 0) / 1e6:.1f}" for name in names),
             f"{sum(memory.values()) / 1e6:.1f}")
            for number, memory in chosen
        ],
    )
    print_line(
        f"{found.rounds} rounds in {found.seconds:.0f} s; from the middle to the end "
        f"{found.growth / 1e6:+.1f} MB, of {MAX_GROWTH / 1e6:.0f} allowed: "
        f"{'GROWS' if found.grows else 'flat'}"
    )


def main() -> None:
    """Run and print; exit code 1 if the memory grows, or with --leak if that was not noticed."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=1400)
    parser.add_argument("--leak", action="store_true", help="a worker that does grow")
    parser.add_argument("--json", type=Path, help="write the figures there too")
    options = parser.parse_args()
    if options.rounds < LOOKS:
        parser.error(f"at least {LOOKS} rounds are needed to see anything")
    with tempfile.TemporaryDirectory() as folder:
        found = run(options.rounds, Path(folder), leak=options.leak)
    show(found)
    if options.json is not None:
        options.json.write_text(json.dumps({
            "rounds": found.rounds, "seconds": found.seconds, "looks": found.looks,
            "growth_bytes": found.growth,
        }, indent=2) + "\n")
    sys.exit(found.grows != options.leak)


if __name__ == "__main__":
    main()
