"""More load than the daemon can carry: what still comes through, how soon, and what is refused.

    python -m benchmarks.overload [--seconds 10] [--times 1,2,5] [--deadline-ms 500] [--json FILE]

A model of known cost: batches of up to four, which take 40 ms and 5 ms for each row, and no
processor, as on an accelerator (`--engine sleeps`); or a loop over a matrix product on the CPU, one
request at a time (`--engine onnx`), where daemon and load share the cores with the model. First its
capacity is measured, in a closed loop that keeps every lane busy. Then calls arrive as a Poisson
process at multiples of that, each with a deadline, whatever becomes of those before
(benchmarks/open_loop.py). Good are calls that were answered within their deadline; goodput is
compared with the best of all rates and the capacity. Of what was accepted 99 of 100 must be in
time, every refusal must come at once and say when to come again, and memory must stay.

The table also says whose processor time it was. With `onnx` the goal can be met only where the
model, the front ends, the senders and nobody else have the cores: look at `other work` first. What
an answer takes of the worker stays the same however much is refused, unless work is wasted.
"""

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import psutil
import uvloop

from benchmarks import daemon as daemons
from benchmarks import steady_worker
from benchmarks.open_loop import INFER, OPTIONS, Report
from tests.e2e.calls import plus_request, work_request
from tests.e2e.repositories import add_plus, add_work
from trtserve.cli.output import print_line, print_table
from trtserve.clock import NS_PER_MS, NS_PER_S, now_ns
from trtserve.cores import core_count
from trtserve.testing import other_daemon

STEADY_MS, MAX_BATCH = "40,5", 4

START_NS = NS_PER_S // 2
"""From the word to the first call: all generators are waiting by then."""

GOOD_SHARE, MEMORY_BYTES = 0.9, 30 << 20


def capacity(address: str, message: bytes, callers: int, seconds: float) -> float:
    """Answers a second when that many callers ask again and again."""
    async def measure() -> float:
        async with grpc.aio.insecure_channel(address, options=OPTIONS) as channel:
            call = channel.unary_unary(INFER)
            for _ in range(2 * callers):
                await call(message)
            end, answered = now_ns() + int(seconds * NS_PER_S), 0

            async def caller() -> None:
                nonlocal answered
                while now_ns() < end:
                    await call(message)
                    answered += 1

            began = now_ns()
            await asyncio.gather(*(caller() for _ in range(callers)))
            return answered * NS_PER_S / (now_ns() - began)

    return float(uvloop.run(measure()))


def offer(
    address: str, message: Path, rate: float, seconds: float, deadline_ms: int, processes: int,
    begins: Callable[[], None] = lambda: None,
) -> list[Report]:
    """Send that load from several processes at once; the report of each. `begins` is called once
    they wait for the start."""
    generators = [
        subprocess.Popen(
            [sys.executable, "-m", "benchmarks.open_loop", address, str(message),
             "--rate", str(rate / processes), "--seconds", str(seconds),
             "--deadline-ms", str(deadline_ms), "--seed", str(number)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for number in range(processes)
    ]
    for generator in generators:
        assert generator.stdout is not None
        if generator.stdout.readline() != "ready\n":
            raise RuntimeError("a load generator does not start")
    begins()
    start = f"{now_ns() + START_NS}\n"
    for generator in generators:
        assert generator.stdin is not None
        generator.stdin.write(start)
        generator.stdin.flush()
    outputs = [generator.communicate(timeout=seconds + 60)[0] for generator in generators]
    return [Report(**json.loads(output.splitlines()[-1])) for output in outputs]


def summarize(reports: list[Report], seconds: float) -> dict[str, Any]:
    """The figures of one rate, of all processes together."""
    accepted = [ns for report in reports for ns in report.accepted_ns]
    late = sum(report.late for report in reports)
    refused = [ns for report in reports for ns in report.refused_ns]
    lag = [ns for report in reports for ns in report.lag_ns]
    others: dict[str, int] = {}
    for report in reports:
        for code, count in report.others.items():
            others[code] = others.get(code, 0) + count
    offered = sum(report.offered for report in reports)
    return {
        "offered_per_s": offered / seconds,
        "good_per_s": len(accepted) / seconds,
        # What was accepted and not in time took at least as long as it had.
        "late": late,
        "late_share": late / max(1, late + len(accepted)),
        "p50_ms": _percentile(accepted, 50),
        "p99_ms": _percentile(accepted, 99),
        "refused": len(refused),
        "refused_p99_ms": _percentile(refused, 99),
        "without_pushback": sum(report.without_pushback for report in reports),
        "other_errors": others,
        "lag_p99_ms": _percentile(lag, 99),
        "generator_cores": sum(report.cpu for report in reports),
    }


def judge(rates: list[dict[str, Any]], growth: int) -> list[str]:
    """What misses its target; nothing if all is well."""
    problems = []
    for figures in rates:
        name = f"{figures['times']:g} times capacity"
        if figures["goodput"] < GOOD_SHARE:
            problems.append(f"{name}: goodput is {figures['goodput']:.2f} of the best")
        if figures["late_share"] > 0.01:
            problems.append(f"{name}: {figures['late_share']:.1%} of what was accepted was late")
        if figures["without_pushback"]:
            problems.append(f"{name}: {figures['without_pushback']} refusals without pushback")
        if figures["other_errors"]:
            problems.append(f"{name}: {figures['other_errors']}")
    if growth > MEMORY_BYTES:
        problems.append(f"memory grew by {growth / (1 << 20):.1f} MiB")
    return problems


def _percentile(values: list[int], percent: float) -> float | None:
    return float(np.percentile(values, percent)) / NS_PER_MS if values else None


class Meter:
    """The processor time of a daemon's processes, and of everything on the machine."""

    def __init__(self, daemon: daemons.Daemon) -> None:
        self._daemon = daemon
        self._began: tuple[int, float, dict[str, float]] = (0, 0.0, {})

    def begin(self) -> None:
        """Measure from now on."""
        self._began = now_ns(), _machine_seconds(), self._daemon.cpu()

    def read(self) -> dict[str, Any]:
        """The cores that each of the daemon's processes and all together took since then, and the
        seconds of the workers alone."""
        at, everything, before = self._began
        seconds = (now_ns() - at) / NS_PER_S
        spent = {
            title: cpu - before.get(title, 0.0) for title, cpu in self._daemon.cpu().items()
        }
        return {
            "cores": {title: cpu / seconds for title, cpu in spent.items()},
            "machine_cores": (_machine_seconds() - everything) / seconds,
            "worker_seconds": sum(cpu for title, cpu in spent.items() if "worker" in title),
        }


def _machine_seconds() -> float:
    times = psutil.cpu_times()
    return float(times.user + times.nice + times.system)


def _cores(figures: dict[str, Any], what: str) -> float:
    """The cores that processes whose title has that word took."""
    return float(sum(cores for title, cores in figures["cores"].items() if what in title))


def _others(figures: dict[str, Any]) -> float:
    """The cores that work of others took: with more than a few hundredths the rest says little."""
    ours = sum(figures["cores"].values()) + figures["generator_cores"]
    return float(max(0.0, figures["machine_cores"] - ours))


def run(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Everything, with a daemon of its own."""
    sleeps = options.engine == "sleeps"
    if sleeps:
        add_plus(folder / "models", config=f"max_batch_size: {MAX_BATCH}\n")
        message = plus_request(np.ones((1, 16), np.float32))
    else:
        add_work(folder / "models")
        message = work_request(options.steps)
    path = folder / "message"
    path.write_bytes(message)
    with daemons.running(
        folder / "models", folder, "--devices", "cpu", "--lanes", str(options.lanes),
        "--front-ends", str(options.front_ends),
        module=other_daemon.__name__ if sleeps else "trtserve",
        environment={
            other_daemon.WORKER: "benchmarks.steady_worker:main", steady_worker.STEADY: STEADY_MS
        } if sleeps else {},
    ) as daemon:
        most = max(
            capacity(daemon.grpc, message, callers, options.seconds / 3)
            for callers in (options.lanes, 2 * options.lanes * MAX_BATCH)
        )
        # What one burst of every kind leaves behind is no growth.
        offer(daemon.grpc, path, max(options.times) * most, min(2, options.seconds / 2),
              options.deadline_ms, options.processes)
        before = daemon.memory()
        rates = []
        for times in options.times:
            meter = Meter(daemon)
            reports = offer(
                daemon.grpc, path, times * most, options.seconds, options.deadline_ms,
                options.processes, meter.begin,
            )
            rates.append({"times": times, **summarize(reports, options.seconds), **meter.read()})
        after = daemon.memory()
    # A closed loop can not be unlucky, so its rate counts too; but nobody can do better than it.
    best = max(most, *(figures["good_per_s"] for figures in rates if figures["times"] > 1))
    for figures in rates:
        wanted = min(best, figures["offered_per_s"])
        figures["goodput"] = figures["good_per_s"] / wanted
    growth = sum(after.values()) - sum(before.values())
    return {
        "engine": options.engine, "seconds": options.seconds, "capacity_per_s": most,
        "deadline_ms": options.deadline_ms,
        "rates": rates, "memory_before": before, "memory_after": after, "growth_bytes": growth,
        "problems": judge(rates, growth), "cores": core_count(),
    }


def show(found: dict[str, Any]) -> None:
    """The figures as a table."""
    print_line(
        f"capacity {found['capacity_per_s']:.1f}/s, deadline {found['deadline_ms']} ms, "
        f"{found['cores']} cores for daemon and load"
    )

    def ms(value: float | None) -> str:
        return "" if value is None else f"{value:.1f}"

    print_table(
        ("times", "offered/s", "good/s", "of the best", "p50 ms", "p99 ms", "late", "refused",
         "refused p99 ms", "no pushback", "sender's lag p99 ms", "worker ms an answer",
         "cores: worker", "front ends", "senders", "other work"),
        [
            (f"{f['times']:g}", f"{f['offered_per_s']:.0f}", f"{f['good_per_s']:.1f}",
             f"{f['goodput']:.2f}", ms(f["p50_ms"]), ms(f["p99_ms"]), f"{f['late_share']:.2%}",
             f["refused"], ms(f["refused_p99_ms"]), f["without_pushback"], ms(f["lag_p99_ms"]),
             f"{1000 * f['worker_seconds'] / max(1.0, f['good_per_s'] * found['seconds']):.2f}",
             f"{_cores(f, 'worker'):.2f}", f"{_cores(f, 'front end'):.2f}",
             f"{f['generator_cores']:.2f}", f"{_others(f):.2f}")
            for f in found["rates"]
        ],
    )
    print_line(f"memory grew by {found['growth_bytes'] / (1 << 20):.1f} MiB")
    for problem in found["problems"]:
        print_line(f"MISSED: {problem}")


def main() -> None:
    """Measure and print; exit code 1 if a target was missed."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=10.0, help="of each rate")
    parser.add_argument(
        "--times", type=lambda text: [float(word) for word in text.split(",")],
        default=[1.0, 2.0, 5.0], help="multiples of the capacity",
    )
    parser.add_argument("--deadline-ms", type=int, default=500)
    parser.add_argument("--engine", choices=("sleeps", "onnx"), default="sleeps")
    parser.add_argument("--steps", type=int, default=300, help="of one request, with onnx")
    parser.add_argument("--lanes", type=int, default=2)
    parser.add_argument("--front-ends", type=int, default=1)
    parser.add_argument("--processes", type=int, default=2, help="that send the load")
    parser.add_argument("--json", type=Path, help="write the figures there too")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = run(options, Path(folder))
    show(found)
    if options.json is not None:
        options.json.write_text(json.dumps(found, indent=2) + "\n")
    sys.exit(bool(found["problems"]))


if __name__ == "__main__":
    main()
