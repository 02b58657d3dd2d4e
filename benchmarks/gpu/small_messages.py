"""Small requests: FP32[16] through an identity model on the CPU, from clients on this machine.

    python -m benchmarks.gpu.small_messages [--front-ends 4,6,8,10] [--clients 4,6,8]

Total answers a second, unary and over streams, and who takes the processor time. With
PERF_ANALYZER naming Triton's perf_analyzer, that measures too: several processes at once.
"""

import argparse
import os
import re
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.gpu import case, client
from benchmarks.gpu.daemon import Daemon, cores_note, daemon, load
from trtserve.testing.models import make_identity

_WARM_S = 1.0


def build(folder: Path) -> None:
    """A repository with the identity model."""
    version = folder / "identity" / "1"
    version.mkdir(parents=True, exist_ok=True)
    make_identity(str(version / "model.onnx"))
    (folder / "identity" / "config.pbtxt").write_text("max_batch_size: 64\n")


def perf_analyzer(
    binary: str, address: str, processes: int, concurrency: int, *, stream: bool
) -> float:
    """Answers a second of all processes together."""
    command = [
        binary, "-u", address, "-i", "grpc", "-m", "identity", "--shape", "x:16",
        "--concurrency-range", str(concurrency), "-p", "3000", "-r", "3", "-s", "999",
    ] + ["--async", "--streaming"] * stream
    started = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for _ in range(processes)
    ]
    total = 0.0
    for process in started:
        try:
            text, _ = process.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            process.kill()
            text, _ = process.communicate()
        found = re.search(r"Throughput: ([\d.]+) infer/sec", text)
        if not found:
            raise RuntimeError(f"perf_analyzer failed: {text[-500:]}")
        total += float(found.group(1))
    return total


def _measure(
    results: case.Results, options: argparse.Namespace, server: Daemon, front_ends: int
) -> list[tuple[str, float]]:
    """All client counts and modes against one daemon."""
    found = []
    for mode in options.modes.split(","):
        for clients in (int(count) for count in options.clients.split(",")):
            with results.step(f"{mode}_{front_ends}_{clients}"):
                commands = [
                    client.command(
                        server.grpc, payload="identity", mode=mode, seconds=options.seconds,
                        channels=options.channels, depth=options.depth, seed=seed,
                    )
                    for seed in range(clients)
                ]
                one = load(server, commands, _WARM_S, options.seconds)
                results.add(
                    f"{mode}_{front_ends}_front_ends_{clients}_clients", one,
                    f"{mode}, {front_ends} front ends, {clients} clients",
                    f"{one['rate']:,.0f}/s", cores_note(one),
                )
                found.append((mode, one["rate"]))
    binary = os.environ.get("PERF_ANALYZER")
    for mode in options.modes.split(",") if binary else ():
        assert binary is not None
        with results.step(f"perf_analyzer_{mode}_{front_ends}"):
            rate = perf_analyzer(
                binary, server.grpc, options.perf_analyzers, 64, stream=mode == "stream"
            )
            name = f"perf_analyzer {mode}, {front_ends} front ends, {options.perf_analyzers} of it"
            results.add(name.replace(" ", "_").replace(",", ""), rate, name, f"{rate:,.0f}/s")
            found.append((f"perf_analyzer {mode}", rate))
    return found


def main() -> None:
    """Sweep and print."""
    given = case.parser(__doc__)
    given.set_defaults(device="cpu")
    given.add_argument("--front-ends", default="", help="default 4,6,8,10")
    given.add_argument("--clients", default="", help="client processes; default 4,6,8")
    given.add_argument("--modes", default="unary,stream")
    given.add_argument("--channels", type=int, default=6, help="connections of each client")
    given.add_argument("--depth", type=int, default=16, help="in flight on each connection")
    given.add_argument("--perf-analyzers", type=int, default=4, help="processes of perf_analyzer")
    given.add_argument("--budget", type=float, default=400.0,
                       help="seconds after which no daemon is started")
    options = case.parse(given, 3.0)
    counts = options.front_ends or ("1" if options.quick else "4,6,8,10")
    options.clients = options.clients or ("1" if options.quick else "4,6,8")
    results = case.Results("Small messages", options)
    best: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        build(Path(folder))
        for count in (int(count) for count in counts.split(",")):
            if results.seconds > options.budget:
                results.add(f"front_ends_{count}", None, f"{count} front ends", "skipped",
                            "the time is used up")
                continue
            flags = ["--devices", options.device, "--front-ends", str(count)]
            if options.lanes:
                flags += ["--lanes", str(options.lanes)]
            with results.step(f"front_ends_{count}"), \
                    daemon(Path(folder), flags, options.load_seconds) as server:
                for mode, rate in _measure(results, options, server, count):
                    best[mode] = max(best.get(mode, (0.0, 0)), (rate, count))
    for mode, (rate, count) in best.items():
        results.add(f"best_{mode}", rate, f"the best of {mode}", f"{rate:,.0f}/s",
                    f"{count} front ends")
    results.finish()


if __name__ == "__main__":
    main()
