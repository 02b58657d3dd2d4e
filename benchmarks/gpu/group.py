"""Child processes that start together: loaders that measure one common window.

A child says `ready` on its standard output, waits for `go START_NS` on its standard input, loads
from then on, measures from START_NS, and says what it found in one line of JSON. It may be asked
again, until its standard input ends.
"""

import json
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from trtserve.clock import NS_PER_S, now_ns

_READY, _GO = "ready", "go"
_END_S = 20


def say_ready() -> int | None:
    """In a child: all is set up. Returns when the window starts, which is soon; None: no more."""
    print(_READY, flush=True)
    words = sys.stdin.readline().split()
    return int(words[1]) if len(words) == 2 and words[0] == _GO else None


def say_result(values: dict[str, Any]) -> None:
    """In a child: what the window found."""
    print(json.dumps(values, default=float), flush=True)


class Group:
    """Children of one run, each `python -m ARGUMENTS`. `close` ends them whatever they do."""

    def __init__(self, commands: Sequence[Sequence[str]], patience_s: float) -> None:
        self._patience_s = patience_s
        self._processes = [
            subprocess.Popen(
                [sys.executable, "-m", *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                text=True,
            )
            for command in commands
        ]
        # A child that hangs would hold a blocking read for ever.
        self._timer = threading.Timer(patience_s, self.close)
        self._timer.daemon = True
        self._timer.start()

    def run(
        self, warm_s: float, watch: Callable[[int], None] | None = None,
        members: Sequence[int] | None = None,
    ) -> list[dict[str, Any]]:
        """Wait until all members are ready, let them go, and return what each found.

        `watch` is called with the start of the window while they load. Without `members`: all.
        """
        chosen = self._processes if members is None else [self._processes[m] for m in members]
        for process in chosen:
            self._until(process, lambda line: line.strip() == _READY)
        start_ns = now_ns() + int(warm_s * NS_PER_S)
        for process in chosen:
            assert process.stdin is not None
            process.stdin.write(f"{_GO} {start_ns}\n")
            process.stdin.flush()
        if watch is not None:
            watch(start_ns)
        return [
            json.loads(self._until(process, lambda line: line.startswith("{")))
            for process in chosen
        ]

    def close(self) -> None:
        """End every child. Twice is harmless."""
        self._timer.cancel()
        for process in self._processes:
            if process.poll() is None:
                process.kill()

    def __enter__(self) -> "Group":
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            assert process.stdin is not None
            process.stdin.close()
        for process in self._processes:
            try:
                process.wait(_END_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            assert process.stdout is not None
            process.stdout.close()
        self.close()

    def _until(self, process: subprocess.Popen[str], wanted: Callable[[str], bool]) -> str:
        assert process.stdout is not None
        for line in process.stdout:
            if wanted(line):
                return line
            print(line, end="", flush=True)
        raise RuntimeError(f"a child ended too early: {process.args!r}")


def run_step(module: str, arguments: Sequence[str], patience_s: float) -> dict[str, Any]:
    """Another benchmark as a process of its own, so that it leaves nothing on the device; what
    it wrote as JSON. Its output goes to ours. Raises RuntimeError if it fails or takes too long.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "result.json"
        command = [sys.executable, "-m", f"benchmarks.gpu.{module}", *arguments, "--json",
                   str(path)]
        try:
            code = subprocess.run(command, timeout=patience_s).returncode
        except subprocess.TimeoutExpired:
            code = -1
        if not path.exists():
            raise RuntimeError(f"{module} ended with {code} and without a result")
        values: dict[str, Any] = json.loads(path.read_text())
    if code:
        values["exit_code"] = code
    return values
