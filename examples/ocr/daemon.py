"""Starts and stops the real daemon, as a shell would."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console

from trtserve.clock import NS_PER_S, now_ns, pause

START_SECONDS = 120
"""Loading and warming the three models takes a few seconds; a busy machine needs more."""

STOP_SECONDS = 60


class DaemonError(Exception):
    """The daemon did not start, or did not stop as it should."""


@contextmanager
def daemon(repository: Path, folder: Path, console: Console) -> Iterator[dict[str, Any]]:
    """Run `trtserve serve` on free ports; gives what it wrote into its ready file.

    At the end it gets SIGTERM. Raises DaemonError, with the end of its log, if it does not
    become ready or does not exit with 0.
    """
    ready_file, log_file = folder / "ready.json", folder / "daemon.log"
    command = [
        sys.executable, "-m", "trtserve", "serve", str(repository),
        "--grpc-port", "0", "--http-port", "0", "--ready-file", str(ready_file),
    ]
    with log_file.open("w") as log:
        # A process group of its own: Ctrl-C in the terminal then reaches the demo only, which
        # stops the daemon in order.
        process = subprocess.Popen(
            command, stdout=log, stderr=subprocess.STDOUT, process_group=0
        )
    try:
        with console.status("Starting the daemon: it loads and warms the models"):
            _wait_until_ready(process, ready_file, log_file)
        yield json.loads(ready_file.read_text())
        _stop(process, log_file)
    finally:
        if process.poll() is None:  # something else failed: do not leave it behind
            process.terminate()
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait_until_ready(
    process: subprocess.Popen[bytes], ready_file: Path, log_file: Path
) -> None:
    end = now_ns() + START_SECONDS * NS_PER_S
    while not ready_file.exists():
        if process.poll() is not None:
            raise DaemonError(
                f"the daemon ended with {process.returncode} at its start; its log:\n"
                + _tail(log_file)
            )
        if now_ns() > end:
            raise DaemonError(
                f"the daemon was not ready within {START_SECONDS} s; its log:\n" + _tail(log_file)
            )
        pause(0.05)


def _stop(process: subprocess.Popen[bytes], log_file: Path) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        code = process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        raise DaemonError(
            f"the daemon did not stop within {STOP_SECONDS} s of SIGTERM; its log:\n"
            + _tail(log_file)
        ) from None
    if code != 0:
        raise DaemonError(f"the daemon ended with {code}; its log:\n" + _tail(log_file))


def _tail(log_file: Path, lines: int = 40) -> str:
    return "\n".join(log_file.read_text(errors="replace").splitlines()[-lines:])
