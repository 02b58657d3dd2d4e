"""The real daemon, started as users start it, and what can be seen of it from outside."""

import json
import os
import select
import signal
import ssl
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import psutil
from prometheus_client.parser import text_string_to_metric_families

from trtserve.clock import NS_PER_S, now_ns

T = TypeVar("T")

PATIENCE_S = 30
"""How long a test waits for what must happen; only a failing test ever waits that long."""

_LOOK_S = 0.02
"""Between two looks at the daemon. The wait is one for its end, so a death is noticed at once."""

_SETTING = "TRTSERVE_"

_EVERYWHERE = {"TRTSERVE_DEVICES": "cpu", "TRTSERVE_FRONT_ENDS": "1"}
"""What would else be chosen by the machine that the tests run on."""


class Daemon:
    """One `trtserve serve` process with its children.

    `ready` has what the ready file said. Use `running` to start one.
    """

    def __init__(
        self, repository: Path, folder: Path, *flags: str,
        environment: Mapping[str, str] | None = None, module: str = "trtserve",
    ) -> None:
        self.ready_file = folder / "ready.json"
        self._log = folder / "daemon.log"
        command = [
            sys.executable, "-m", module, "serve", str(repository),
            "--grpc-port", "0", "--http-port", "0", "--ready-file", str(self.ready_file), *flags,
        ]
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(_SETTING)}
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
                env={**inherited, **_EVERYWHERE, **(environment or {})},
            )
        self._pidfd = os.pidfd_open(self.process.pid)
        self.ready: dict[str, Any] = {}
        self._tls: ssl.SSLContext | None = None

    def wait_ready(self) -> None:
        """Wait for the ready file: all models were tried, all front ends listen."""
        self.until(self.ready_file.exists, "the ready file")
        self.ready = json.loads(self.ready_file.read_text())

    @property
    def grpc(self) -> str:
        """Where gRPC is served."""
        return str(self.ready["grpc"])

    @property
    def log(self) -> str:
        """All that it wrote."""
        return self._log.read_text(errors="replace")

    def until(self, look: Callable[[], T], what: str) -> T:
        """Look again and again until that gives something true, and return it.

        Fails the test when it never does or when the daemon ends meanwhile.
        """
        end = now_ns() + PATIENCE_S * NS_PER_S
        while not (found := look()):
            if self._ended(_LOOK_S):
                raise AssertionError(f"the daemon ended while waiting for {what}:\n{self.log}")
            assert now_ns() < end, f"waited {PATIENCE_S} s for {what}:\n{self.log}"
        return found

    # --- HTTP ----------------------------------------------------------------------------

    def trust(self, ca: Path) -> None:
        """Its HTTP port speaks TLS, with a certificate that this authority signed."""
        self._tls = ssl.create_default_context(cafile=str(ca))

    def get(self, path: str) -> tuple[int, str]:
        """The status and the body of an HTTP answer."""
        try:
            scheme = "http" if self._tls is None else "https"
            with urllib.request.urlopen(
                f"{scheme}://{self.ready['http']}{path}", timeout=PATIENCE_S, context=self._tls
            ) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def metric(self, name: str, **labels: str) -> float:
        """The sum of all samples of that name with these labels; 0 where there is none.

        Fails the test if there is no such metric.
        """
        # The parser gives counters the end that all but Triton's have.
        plain = name.removesuffix("_total")
        families = [
            family for family in text_string_to_metric_families(self.get("/metrics")[1])
            if family.name == plain
        ]
        assert families, f"there is no metric {name}"
        return sum(
            sample.value
            for family in families
            for sample in family.samples
            if labels.items() <= sample.labels.items()
        )

    def until_idle(self) -> None:
        """Wait until nothing is in flight and every block of every arena is back."""
        for name in ("requests_in_flight", "queued_requests", "lanes_busy", "arena_used_bytes"):
            self.until_metric(0, f"trtserve_{name}")

    def until_metric(self, wanted: float, name: str, **labels: str) -> None:
        """Wait until a metric has a value."""
        self.until(lambda: self.metric(name, **labels) == wanted, f"{name} {wanted:g}")

    # --- processes -----------------------------------------------------------------------

    def children(self) -> dict[str, int]:
        """The pids of the children by their titles, such as `worker cpu`, as they are now."""
        found = {}
        for child in psutil.Process(self.process.pid).children():
            try:
                title = " ".join(child.cmdline()).strip()
            except psutil.Error:  # it has just ended
                continue
            if title.startswith("trtserve "):
                found[title.removeprefix("trtserve ")] = child.pid
        return found

    def replaced(self, name: str, old: int) -> bool:
        """Whether another process than `old` plays that role and the daemon is ready."""
        return self.children().get(name, old) != old and self.get("/readyz")[0] == 200

    def signal(self, number: signal.Signals) -> None:
        """Send the supervisor a signal."""
        self.process.send_signal(number)

    def end(self) -> int:
        """Wait for the supervisor's end; its exit code."""
        assert self._ended(PATIENCE_S), f"no end within {PATIENCE_S} s:\n{self.log}"
        return self.process.wait()

    def close(self) -> None:
        """End it whatever it does; its children end with it."""
        self.process.kill()
        self.process.wait()
        if self._pidfd >= 0:
            os.close(self._pidfd)
            self._pidfd = -1

    def _ended(self, seconds: float) -> bool:
        return bool(select.select([self._pidfd], [], [], seconds)[0])


@contextmanager
def running(
    repository: Path, folder: Path, *flags: str, environment: Mapping[str, str] | None = None,
    module: str = "trtserve",
) -> Iterator[Daemon]:
    """A daemon that is up. Afterwards, if it still runs, it is told to stop and has to do so
    in order: exit code 0, nobody left, no traceback in its log."""
    daemon = Daemon(repository, folder, *flags, environment=environment, module=module)
    try:
        daemon.wait_ready()
        yield daemon
        if daemon.process.poll() is None:
            pids = daemon.children().values()
            daemon.signal(signal.SIGTERM)
            assert daemon.end() == 0, daemon.log
            assert not [pid for pid in pids if psutil.pid_exists(pid)]
        assert not daemon.ready_file.exists() or daemon.process.returncode < 0
        assert "Traceback" not in daemon.log, daemon.log
    finally:
        daemon.close()
