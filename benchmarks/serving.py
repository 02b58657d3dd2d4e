"""What serving costs: trtserve against a bare gRPC echo, on one machine, in one run.

    python -m benchmarks.serving [--rounds 3] [--json FILE] [CASE ...]

Every figure is a ratio of two measurements taken one after the other, since machines differ
and change; of the rounds the median counts. The echo (echo_server.py) is what grpc.aio on uvloop
can do at best with the same messages in one process; load comes from Triton's perf_analyzer
where it can send it. Server and load share the machine's cores.
"""

import argparse
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks import load, perf_analyzer
from examples.ocr import models as ocr_models
from trtserve.cli.output import print_table
from trtserve.clock import pause
from trtserve.testing.models import make_identity

SIZES = ((160, 160), (160, 320), (224, 224), (320, 320), (320, 480), (480, 480))
"""Heights and widths of the images for the detection model."""

Case = Callable[["Servers"], tuple[float, str]]
"""Measures once: the ratio, and the two figures in words."""


class Servers:
    """The echo and the daemon, both running."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._processes: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        """Start both and wait until they serve."""
        repository = ocr_models.build_repository(self._folder / "models")
        for name, shape in (("identity", ("N", 16)), ("any", ("N", "C"))):
            (self._folder / "models" / name / "1").mkdir(parents=True)
            make_identity(str(self._folder / "models" / name / "1" / "model.onnx"), shape)
        ready = self._folder / "ready.json"
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.echo = f"127.0.0.1:{port}"
        self._spawn("benchmarks.echo_server", str(port))
        self._spawn(
            "trtserve", "serve", str(repository), "--grpc-port", "0", "--http-port", "0",
            "--ready-file", str(ready),
        )
        while not ready.exists():
            if self._processes[1].poll() is not None:
                sys.exit("the daemon did not start")
            pause(0.1)
        self.daemon = json.loads(ready.read_text())["grpc"]

    def stop(self) -> None:
        """Stop both."""
        for process in self._processes:
            process.send_signal(signal.SIGTERM)
            process.wait(30)

    def _spawn(self, *arguments: str) -> None:
        self._processes.append(subprocess.Popen(
            [sys.executable, "-m", *arguments], stdout=subprocess.DEVNULL
        ))


def unary(servers: Servers) -> tuple[float, str]:
    """Unary calls, FP32[16], 64 clients: requests a second."""
    echo = perf_analyzer.run(servers.echo, "identity", 16, 64).rate
    ours = perf_analyzer.run(servers.daemon, "identity", 16, 64).rate
    return ours / echo, f"{ours:,.0f}/s of {echo:,.0f}/s"


def single(servers: Servers) -> tuple[float, str]:
    """Unary calls, FP32[16], one client: microseconds that the median is over the echo's."""
    echo = perf_analyzer.run(servers.echo, "identity", 16, 1).p50_us
    ours = perf_analyzer.run(servers.daemon, "identity", 16, 1).p50_us
    return ours - echo, f"{ours:.0f} us over {echo:.0f} us"


def stream(servers: Servers) -> tuple[float, str]:
    """One bidirectional stream, FP32[16], 64 in flight: requests a second."""
    echo = perf_analyzer.run(servers.echo, "identity", 16, 64, stream=True).rate
    ours = perf_analyzer.run(servers.daemon, "identity", 16, 64, stream=True).rate
    return ours / echo, f"{ours:,.0f}/s of {echo:,.0f}/s"


def infer_batch(servers: Servers) -> tuple[float, str]:
    """InferBatch, 32 requests of four sizes a call, against our own unary rate."""
    alone = perf_analyzer.run(servers.daemon, "identity", 16, 64).rate
    items = [load.request("any", np.zeros((1, 16 << (i % 4)), np.float32)) for i in range(32)]
    together = load.infer_batch_rate(servers.daemon, items, 4, 4.0)
    return together / alone, f"{together:,.0f}/s over {alone:,.0f}/s"


def large(servers: Servers) -> tuple[float, str]:
    """Unary calls with 4 MB in and out, 4 clients: bytes a second."""
    width = 1 << 20
    echo = perf_analyzer.run(servers.echo, "any", width, 4).rate
    ours = perf_analyzer.run(servers.daemon, "any", width, 4).rate
    return ours / echo, f"{ours * 4.194:,.0f} MB/s of {echo * 4.194:,.0f} MB/s"


def mixed(servers: Servers) -> tuple[float, str]:
    """The detection model, six sizes interleaved, against each size alone: pixels a second.

    Alone: the pixels of one image of each size, over the time that each takes when only its
    size is sent.
    """
    images = [
        load.request("det", np.random.default_rng(0).random((1, 3, *size), np.float32))
        for size in SIZES
    ]
    pixels = [height * width for height, width in SIZES]
    rates = [load.mixed_rate(servers.daemon, [image], 6, 3.0) for image in images]
    alone = sum(pixels) / sum(1 / rate for rate in rates)
    together = load.mixed_rate(servers.daemon, images, 6, 12.0) * sum(pixels) / len(pixels)
    return together / alone, f"{together / 1e6:.2f} of {alone / 1e6:.2f} Mpixel/s"


CASES: dict[str, tuple[Case, str, float]] = {
    "unary": (unary, "at least", 0.55),
    "single": (single, "at most", 300),
    "stream": (stream, "at least", 0.55),
    "infer_batch": (infer_batch, "at least", 4.0),
    "large": (large, "at least", 0.7),
    "mixed": (mixed, "at least", 0.95),
}
"""Each with its goal."""


def main() -> None:
    """Run the cases that the command line names, or all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("case", nargs="*", choices=[[], *CASES], help="default: all")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    found: dict[str, list[tuple[float, str]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        servers = Servers(Path(folder))
        servers.start()
        try:
            for _ in range(options.rounds):
                for name in options.case or CASES:
                    found.setdefault(name, []).append(CASES[name][0](servers))
                    print(f"{name}: {found[name][-1][0]:.2f}  ({found[name][-1][1]})", flush=True)
        finally:
            servers.stop()
    rows = []
    for name, results in found.items():
        case, bound, goal = CASES[name]
        ratios = [ratio for ratio, _ in results]
        median = statistics.median(ratios)
        met = median >= goal if bound == "at least" else median <= goal
        words = min(results, key=lambda result: abs(result[0] - median))[1]
        rows.append((
            (case.__doc__ or name).splitlines()[0], f"{bound} {goal:g}", f"{median:.2f}",
            f"{min(ratios):.2f} .. {max(ratios):.2f}", words, "yes" if met else "NO",
        ))
    print_table(
        ("what", "goal", "median", "range", "in the median round", "met"), rows,
        title=f"{len(os.sched_getaffinity(0))} cores, {options.rounds} rounds",
    )
    if options.json:
        options.json.write_text(json.dumps(
            {name: [ratio for ratio, _ in results] for name, results in found.items()}, indent=2
        ))


if __name__ == "__main__":
    main()
