"""The real daemon for benchmarks, started as users start it, and the memory of its processes."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import psutil

from trtserve.clock import pause

ROOT = Path(__file__).parents[1]

Figure = TypeVar("Figure", int, float)

LOOK_S = 0.05
START_S = 60


@dataclass(frozen=True)
class Daemon:
    """One `trtserve serve` with its children."""

    process: subprocess.Popen[bytes]
    ready: dict[str, Any]

    @property
    def grpc(self) -> str:
        """Where gRPC is served."""
        return str(self.ready["grpc"])

    def processes(self) -> list[psutil.Process]:
        """The supervisor and its children."""
        supervisor = psutil.Process(self.process.pid)
        return [supervisor, *supervisor.children(recursive=True)]

    def memory(self) -> dict[str, int]:
        """Bytes of each process by its title, each shared page divided among those that map it
        (Pss): what they take together is the sum."""
        return self._by_title(lambda process: int(process.memory_full_info().pss))

    def cpu(self) -> dict[str, float]:
        """Seconds of processor time of each process by its title, so far."""
        return self._by_title(lambda process: float(sum(process.cpu_times()[:2])))

    def cpu_seconds(self) -> float:
        """Processor time of all of them so far."""
        return sum(self.cpu().values())

    def _by_title(self, measure: Callable[[psutil.Process], Figure]) -> dict[str, Figure]:
        found: dict[str, Figure] = {}
        for process in self.processes():
            try:
                title = " ".join(process.cmdline()).strip()
                title = title if title.startswith("trtserve ") else "supervisor"
                figure = measure(process)
            except psutil.Error:  # it has just ended
                continue
            found[title] = found[title] + figure if title in found else figure
        return found

    def stop(self) -> int:
        """End it in good order; its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(START_S)


def start(
    repository: Path, folder: Path, *flags: str, module: str = "trtserve", grpc_port: int = 0,
    environment: Mapping[str, str] | None = None,
) -> Daemon:
    """A daemon that is ready. Its log is FOLDER/daemon.log. `module` trtserve.testing.other_daemon,
    and what it wants in the environment, have parts of it replaced."""
    folder.mkdir(parents=True, exist_ok=True)
    ready_file = folder / "ready.json"
    ready_file.unlink(missing_ok=True)
    command = [
        sys.executable, "-m", module, "serve", str(repository), "--grpc-port", str(grpc_port),
        "--http-port", "0", "--ready-file", str(ready_file), *flags,
    ]
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("TRTSERVE_")}
    # Children look for a target of ours there.
    places = os.pathsep.join(filter(None, [str(ROOT), inherited.get("PYTHONPATH")]))
    with (folder / "daemon.log").open("ab") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=subprocess.STDOUT,
            env={**inherited, "PYTHONPATH": places, **(environment or {})},
        )
    for _ in range(int(START_S / LOOK_S)):
        if ready_file.exists():
            return Daemon(process, json.loads(ready_file.read_text()))
        if process.poll() is not None:
            break
        pause(LOOK_S)
    process.kill()
    raise RuntimeError(f"no daemon: {(folder / 'daemon.log').read_text()[-2000:]}")


@contextmanager
def running(
    repository: Path, folder: Path, *flags: str, module: str = "trtserve",
    environment: Mapping[str, str] | None = None,
) -> Iterator[Daemon]:
    """A daemon, ended afterwards whatever happened."""
    daemon = start(repository, folder, *flags, module=module, environment=environment)
    try:
        yield daemon
        status = daemon.stop()
        if status:
            raise RuntimeError(f"the daemon ended with {status}")
    finally:
        if daemon.process.poll() is None:
            daemon.process.kill()
            daemon.process.wait()
