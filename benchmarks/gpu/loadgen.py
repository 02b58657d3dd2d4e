"""MLPerf's LoadGen against one real worker process: the Server scenario over the Offline one.

    python -m benchmarks.gpu.loadgen [--device cuda:0] [--latency-ms 15] [--deadline-ms 0]
                                     [--runs 6] [--seconds 12]

ResNet50 with images of 224 pixels in host memory, no gRPC. Offline: all samples at once. Server:
Poisson arrivals; the highest rate whose 99th percentile keeps the limit, by bisection. MLPerf
asks for runs of at least ten minutes; these are short trials by its rules and its own program,
and no results of MLPerf. Needs the package mlcommons-loadgen.
"""

import argparse
import importlib
import re
import sys
import tempfile
import threading
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.gpu import case
from benchmarks.gpu.front_end import (
    Driver,
    Picture,
    WorkerProcess,
    place,
    settings_for,
    worker,
)
from trtserve.clock import NS_PER_MS, NS_PER_S, now_ns
from trtserve.ipc import message as m

_SWITCH_SECONDS = 1e-4
_QUICK_SIZES = "64"
_TRIAL_S = 2.0
_NO_LIMIT = 1 << 30
_IDLE_MS = 100


class Sut:
    """LoadGen's system under test: the worker, with at most `window` requests lent to it.

    LoadGen's thread hands queries over and sends; a thread of our own receives, answers and
    sends what was held back. Requests carry LoadGen's ids, so nothing is looked up.
    """

    def __init__(
        self, lg: Any, process: WorkerProcess, pictures: Sequence[Picture]
    ) -> None:
        self._lg = lg
        self._process = process
        self._pictures = pictures
        self._deadline_ns = 0
        self._sending = threading.Lock()
        self._todo: deque[tuple[int, int]] = deque()
        self._lent = 0
        self._ending = False
        self.window = _NO_LIMIT
        self.failures = 0
        self.first_failure = ""
        self.rows = self.batches = 0
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._receive, name="receiver", daemon=True)
        self._thread.start()

    def reset(self, window: int, deadline_ns: int = 0) -> None:
        """Before a run: how many requests may be lent, and how long each has; 0: no limit."""
        self.window = window
        self._deadline_ns = deadline_ns
        self.failures = self.rows = self.batches = 0
        self.first_failure = ""

    def issue(self, queries: Sequence[Any]) -> None:
        """LoadGen's queries."""
        with self._sending:
            self._todo.extend([(query.id, query.index) for query in queries])
            self._pump()
            self._process.flush()

    def flush(self) -> None:
        """LoadGen has no more queries: nothing waits here for company."""

    def close(self) -> None:
        """End the thread."""
        self._ending = True
        self._thread.join(10)

    def _pump(self) -> None:
        """Send what the window allows."""
        todo, pictures, send = self._todo, self._pictures, self._process.channel.send
        count = min(len(todo), self.window - self._lent)
        if count <= 0:
            return
        now = now_ns()
        deadline = now + self._deadline_ns if self._deadline_ns else 0
        for _ in range(count):
            ident, index = todo.popleft()
            picture = pictures[index]
            send(m.Submit(ident, picture.target.variant, picture.target.bucket, 1,
                          picture.inputs, (0,), now, deadline))
        self._lent += count

    def _receive(self) -> None:
        try:
            while not self._ending:
                messages = self._process.receive(_IDLE_MS)
                if messages:
                    self._answer(messages)
        except BaseException as error:
            self.error = error
            print(f"the receiver ended: {error}", file=sys.stderr, flush=True)
            with self._sending:
                # LoadGen would wait for ever.
                lost = [ident for ident, _ in self._todo]
                self._todo.clear()
            self.failures += len(lost) + self._lent
            self._complete(lost)

    def _answer(self, messages: Sequence[m.AnyMessage]) -> None:
        answered: list[int] = []
        leases: list[int] = []
        for message in messages:
            if isinstance(message, m.Done):
                view = self._process.view
                for block in message.outputs:
                    bytes(view[block.offset : block.offset + sum(block.sizes)])
                answered += message.ids
                leases.append(message.lease)
                self.rows += message.timing.rows
                self.batches += 1
            elif isinstance(message, m.Failed):
                answered += message.ids
                self.failures += len(message.ids)
                self.first_failure = self.first_failure or f"{message.word}: {message.message}"
        self._complete(answered)
        with self._sending:
            if leases:
                self._process.channel.send(m.Release(tuple(leases)))
            self._lent -= len(answered)
            self._pump()
            self._process.flush()

    def _complete(self, idents: Sequence[int]) -> None:
        response = self._lg.QuerySampleResponse
        if idents:
            self._lg.QuerySamplesComplete([response(ident, 0, 0) for ident in idents])


class Test:
    """LoadGen, run again and again with one system under test."""

    def __init__(self, lg: Any, sut: Sut, count: int, options: argparse.Namespace) -> None:
        self._lg = lg
        self._sut = sut
        self._options = options
        self._system = lg.ConstructSUT(sut.issue, sut.flush)
        self._library = lg.ConstructQSL(count, count, _nothing, _nothing)

    def offline(self, expected: float, seconds: float) -> dict[str, Any]:
        """All samples at once."""
        settings = self._settings("Offline", seconds)
        # Too low, and the run would end before its least duration.
        settings.offline_expected_qps = 1.2 * expected
        self._sut.reset(self._options.window)
        return self._run(settings)

    def server(self, rate: float, seconds: float) -> dict[str, Any]:
        """Poisson arrivals."""
        settings = self._settings("Server", seconds)
        settings.server_target_qps = rate
        settings.server_target_latency_ns = int(self._options.latency_ms * NS_PER_MS)
        settings.server_target_latency_percentile = 0.99
        settings.server_coalesce_queries = self._options.coalesce
        self._sut.reset(_NO_LIMIT, int(self._options.deadline_ms * NS_PER_MS))
        found = self._run(settings)
        found["valid"] = found["valid"] and not found["failures"]
        return found

    def close(self) -> None:
        """Give LoadGen's objects back."""
        self._lg.DestroyQSL(self._library)
        self._lg.DestroySUT(self._system)

    def _settings(self, scenario: str, seconds: float) -> Any:
        settings = self._lg.TestSettings()
        settings.scenario = getattr(self._lg.TestScenario, scenario)
        settings.mode = self._lg.TestMode.PerformanceOnly
        settings.min_duration_ms = int(seconds * 1000)
        # A rate far too high piles up work that would take long to finish.
        settings.max_duration_ms = int(seconds * 1500) if scenario == "Server" else 0
        settings.min_query_count = 1
        return settings

    def _run(self, settings: Any) -> dict[str, Any]:
        log = self._lg.LogSettings()
        with tempfile.TemporaryDirectory() as folder:
            log.log_output.outdir = folder
            log.log_output.copy_summary_to_stdout = False
            log.enable_trace = False
            self._lg.StartTestWithLogSettings(self._system, self._library, settings, log)
            text = (Path(folder) / "mlperf_log_summary.txt").read_text()
        if self._sut.error is not None:
            raise RuntimeError(f"the worker was lost: {self._sut.error}")
        found = read_summary(text)
        found["failures"] = self._sut.failures
        found["first_failure"] = self._sut.first_failure
        found["mean_rows"] = self._sut.rows / max(1, self._sut.batches)
        return found


def read_summary(text: str) -> dict[str, Any]:
    """What LoadGen's summary says."""

    def number(pattern: str) -> float:
        found = re.search(rf"^{pattern}\s*:\s*([\d.e+]+)", text, re.MULTILINE)
        return float(found.group(1)) if found else 0.0

    return {
        "unmet": ", ".join(re.findall(r"^\s*(.+?) satisfied\s*: NO", text, re.MULTILINE)),
        "valid": bool(re.search(r"^Result is : VALID", text, re.MULTILINE)),
        "samples_per_second": number("Samples per second"),
        "scheduled_per_second": number(r"Scheduled samples per second"),
        "completed_per_second": number(r"Completed samples per second"),
        "p50_ms": number(r"50\.00 percentile latency \(ns\)") / NS_PER_MS,
        "p99_ms": number(r"99\.00 percentile latency \(ns\)") / NS_PER_MS,
        "max_ms": number(r"Max latency \(ns\)") / NS_PER_MS,
    }


def _nothing(indices: Sequence[int]) -> None:
    """The images lie in memory already."""


def bisect(results: case.Results, test: Test, top: float, options: argparse.Namespace) -> float:
    """The highest valid rate found, as completed a second."""
    low, high = 0.0, top
    best: dict[str, Any] | None = None
    rate = options.first_share * top
    runs = []
    for turn in range(options.runs):
        if results.seconds > options.budget:
            results.add("budget", options.budget, "bisection", f"{turn} runs",
                        "the time is used up")
            break
        found = test.server(rate, options.seconds)
        found["target"] = rate
        runs.append(found)
        results.add(
            "server_runs", runs, f"Server at {rate:,.0f}/s",
            "valid" if found["valid"] else "too much" if found["unmet"] else "failures",
            f"p50 {found['p50_ms']:.2f} ms, p99 {found['p99_ms']:.2f} ms, max "
            f"{found['max_ms']:.1f} ms, {found['mean_rows']:.1f} rows a batch, completed "
            f"{found['completed_per_second']:,.0f}/s, {found['failures']} failures"
            f"{'; ' * bool(found['first_failure'])}{found['first_failure']}"
            f"{'; unmet: ' * bool(found['unmet'])}{found['unmet']}",
        )
        if found["valid"]:
            low, best = rate, found
        else:
            high = rate
        if high - low < options.precision * top:
            break
        rate = (low + high) / 2
    if best is None:
        return 0.0
    results.add("server", best, "Server, the best valid", f"{best['target']:,.0f}/s",
                f"completed {best['completed_per_second']:,.0f}/s; p50 {best['p50_ms']:.2f} ms, "
                f"p99 {best['p99_ms']:.2f} ms, max {best['max_ms']:.1f} ms")
    return float(best["completed_per_second"] or best["target"])


def main() -> None:
    """Run both scenarios and print their ratio."""
    given = case.parser(__doc__)
    given.add_argument("--latency-ms", type=float, default=0.0,
                       help="the 99th percentile's limit; default 15")
    given.add_argument("--deadline-ms", type=float, default=0.0,
                       help="each request's deadline; 0: none")
    given.add_argument("--window", type=int, default=0,
                       help="Offline: requests lent at once; default 16 batches")
    given.add_argument("--runs", type=int, default=6, help="of the Server scenario")
    given.add_argument("--first-share", type=float, default=0.85,
                       help="of Offline, where the search begins")
    given.add_argument("--precision", type=float, default=0.01, help="of Offline")
    given.add_argument("--no-coalesce", dest="coalesce", action="store_false",
                       help="LoadGen hands over queries one by one even when it is late")
    given.add_argument("--budget", type=float, default=300.0,
                       help="seconds after which no run is started")
    options = case.parse(given, 12.0)
    lg = importlib.import_module("mlperf_loadgen")
    sys.setswitchinterval(_SWITCH_SECONDS)
    quick = options.quick
    if options.sizes in (case.SIZES, case.QUICK_SIZES):
        options.sizes = _QUICK_SIZES if quick else "224"
    if options.images == 128:
        options.images = 1024  # as MLPerf asks for ResNet50
    options.latency_ms = options.latency_ms or (150.0 if quick else 15.0)
    options.window = options.window or 16 * options.batch
    (size,) = case.sizes_of(options)
    with case.repository(options) as folder:
        settings = settings_for(folder, options.device, options.lanes)
        results = case.Results(f"LoadGen, {size} pixels, p99 {options.latency_ms:g} ms", options)
        with worker(settings, options.device, options.load_seconds) as process:
            results.add("loading_seconds", results.seconds, "loading and warming up",
                        f"{results.seconds:.1f} s")
            order = [(size, number) for number in range(options.images)]
            pictures = place(
                process, case.MODEL, {size: case.images(size, options.images)}, order
            )
            with results.step("loadgen"):
                _scenarios(results, lg, process, pictures, options)
    results.add(
        "rules", "trial", "length of a run", f"{options.seconds:g} s",
        "MLPerf asks for 600 s and 270,336 queries: this is a trial, not a result of MLPerf",
    )
    results.finish()


def _scenarios(
    results: case.Results, lg: Any, process: WorkerProcess, pictures: Sequence[Picture],
    options: argparse.Namespace,
) -> None:
    guess = Driver(process, pictures).run(options.window, now_ns() + NS_PER_S, _TRIAL_S).rate
    sut = Sut(lg, process, pictures)
    test = Test(lg, sut, len(pictures), options)
    offline = test.offline(guess, options.seconds)
    if "Min duration" in offline["unmet"]:
        # The guess was too low, and with it the number of samples.
        offline = test.offline(offline["samples_per_second"], options.seconds)
    rate = offline["samples_per_second"]
    word = "valid" if offline["valid"] else f"INVALID: {offline['unmet']}"
    results.add("offline", offline, "Offline", f"{rate:,.0f}/s",
                f"{word}, {offline['mean_rows']:.1f} rows a batch, {offline['failures']} failures "
                f"{offline['first_failure']}")
    server = bisect(results, test, rate, options)
    results.add("server_over_offline", server / rate if rate else 0.0, "   Server / Offline",
                f"{server / rate if rate else 0.0:.3f}")
    test.close()
    sut.close()


if __name__ == "__main__":
    main()
