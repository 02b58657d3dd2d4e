"""The real daemon, and what processor time its processes take."""

import contextlib
import json
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from benchmarks.gpu.group import Group
from trtserve.clock import NS_PER_S, now_ns, pause

_STOP_S = 20


@dataclass(frozen=True, slots=True)
class Cpu:
    """Processor seconds of each process of a daemon, and of its workers' main threads."""

    total: dict[str, float]
    loops: dict[str, float]


class Daemon:
    """`trtserve serve` with its children. `ready` is what its ready file said."""

    def __init__(self, ready: dict[str, Any]) -> None:
        self.ready = ready
        self._processes = {
            name: psutil.Process(pid) for name, pid in ready["pids"].items() if pid is not None
        }

    @property
    def grpc(self) -> str:
        """Where gRPC is served."""
        return str(self.ready["grpc"])

    def cpu(self) -> Cpu:
        """Processor time up to now."""
        total, loops = {}, {}
        for name, process in self._processes.items():
            times = process.cpu_times()
            total[name] = times.user + times.system
            if name.startswith("worker"):
                loops[name] = sum(
                    thread.user_time + thread.system_time
                    for thread in process.threads() if thread.id == process.pid
                )
        return Cpu(total, loops)


@contextlib.contextmanager
def daemon(
    repository: Path, flags: Sequence[str], patience_s: float
) -> Iterator[Daemon]:
    """A daemon that serves, until the end of the block. Raises RuntimeError if it does not."""
    with tempfile.TemporaryDirectory() as folder:
        ready, log = Path(folder) / "ready.json", Path(folder) / "log"
        command = [
            sys.executable, "-m", "trtserve", "serve", str(repository), "--grpc-port", "0",
            "--http-port", "0", "--ready-file", str(ready), "--log-level", "warning", *flags,
        ]
        with log.open("wb") as output:
            process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=output)
        try:
            end = now_ns() + int(patience_s * NS_PER_S)
            while not ready.exists():
                if process.poll() is not None or now_ns() > end:
                    raise RuntimeError(f"the daemon does not serve: {log.read_text()[-1500:]}")
                pause(0.1)
            found = json.loads(ready.read_text())
            bad = [model for model in found["models"] if model["state"].lower() != "ready"]
            if bad:
                raise RuntimeError(f"a model does not serve: {bad}")
            yield Daemon(found)
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            text = log.read_text().strip()
            if text:
                print(f"the daemon's log ends with:\n{text[-1500:]}", flush=True)


def load(
    server: Daemon, commands: Sequence[Sequence[str]], warm_s: float, seconds: float,
    patience_s: float = 120.0,
) -> dict[str, Any]:
    """Let client processes load the daemon for one window: rate, latency, processor time.

    Processor time is in seconds of one core a second: `front_ends` and `clients` of all
    together, the busiest front end, `worker` and of it `worker_loop`, its main thread. Latencies
    are the worst client's.
    """
    marks: list[Cpu] = []

    def watch(start_ns: int) -> None:
        for at in (start_ns, start_ns + int(seconds * NS_PER_S)):
            pause(max(0.0, (at - now_ns()) / NS_PER_S))
            marks.append(server.cpu())

    with Group(commands, patience_s) as group:
        found = group.run(warm_s, watch)
    before, after = marks
    spent = {name: (after.total[name] - before.total[name]) / seconds for name in before.total}
    front_ends = [value for name, value in spent.items() if name.startswith("front end")]
    errors = [each["first_error"] for each in found if each["first_error"]]
    return {
        "rate": sum(each["answered"] for each in found) / seconds,
        "errors": sum(each["errors"] for each in found),
        "first_error": errors[0] if errors else "",
        "p50_ms": max(each["p50_ms"] for each in found),
        "p99_ms": max(each["p99_ms"] for each in found),
        "cores": {
            "front_ends": sum(front_ends), "busiest_front_end": max(front_ends),
            "worker": sum(v for name, v in spent.items() if name.startswith("worker")),
            "worker_loop": sum(after.loops[name] - before.loops[name] for name in before.loops)
            / seconds,
            "clients": sum(each["cpu_seconds"] for each in found) / seconds,
        },
    }


def cores_note(found: dict[str, Any]) -> str:
    """The processor time in words, also for each answer."""
    cores = found["cores"]
    each = 1e6 / found["rate"] if found["rate"] else 0.0
    text = ", ".join(
        f"{name.replace('_', ' ')} {value:.2f} ({value * each:.0f} us each)"
        for name, value in cores.items()
    )
    errors = f"; {found['errors']} errors: {found['first_error']}" if found["errors"] else ""
    return f"cores: {text}{errors}"
