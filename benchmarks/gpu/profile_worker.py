"""Where the worker's processor time goes: microseconds a batch and a request, thread by thread.

    python -m benchmarks.gpu.profile_worker [--device cuda:0] [--functions]

During the mixed run, from the system's own count of each thread's time. Python gives threads no
names that the system sees; py-spy, where it is installed, does, and with --functions it also says
which functions take the time (in a window of its own: watching costs).
"""

import argparse
import json
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections import Counter
from pathlib import Path

from benchmarks.gpu import case
from benchmarks.gpu.front_end import Driver, WorkerProcess, settings_for, worker
from benchmarks.gpu.through_worker import arguments, driver_for, make_images, parse
from trtserve.clock import NS_PER_S, now_ns

_SHOWN = 25
_LEAST_SHARE = 0.002


def thread_times(pid: int) -> dict[int, int]:
    """Nanoseconds on a processor of each thread, by its id."""
    found = {}
    for folder in Path(f"/proc/{pid}/task").iterdir():
        try:
            found[int(folder.name)] = int((folder / "schedstat").read_text().split()[0])
        except (OSError, ValueError, IndexError):
            found[int(folder.name)] = _ticks(folder)
    return found


def _ticks(folder: Path) -> int:
    try:
        fields = (folder / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    return (int(fields[11]) + int(fields[12])) * 10_000_000


def thread_names(pid: int) -> dict[int, str]:
    """Names by thread id: Python's where py-spy is there, else the system's."""
    names = {}
    for folder in Path(f"/proc/{pid}/task").iterdir():
        try:
            names[int(folder.name)] = (folder / "comm").read_text().strip()
        except OSError:
            continue
    spy = _py_spy()
    if spy:
        done = subprocess.run([spy, "dump", "--json", "--pid", str(pid)], capture_output=True,
                              text=True, timeout=30)
        if not done.returncode:
            for thread in json.loads(done.stdout):
                if thread.get("os_thread_id") and thread.get("thread_name"):
                    names[thread["os_thread_id"]] = thread["thread_name"]
    names[pid] = "loop"
    return names


def _py_spy() -> str | None:
    beside = Path(sysconfig.get_path("scripts")) / "py-spy"
    return str(beside) if beside.exists() else shutil.which("py-spy")


def functions(driver: Driver, options: argparse.Namespace, pid: int) -> Counter[str]:
    """Samples by thread and innermost function, while the load runs. Empty without py-spy."""
    spy = _py_spy()
    if spy is None:
        return Counter()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "samples"
        process = subprocess.Popen(
            [spy, "record", "--pid", str(pid), "--duration", str(max(1, int(options.seconds))),
             "--rate", "500", "--format", "raw", "--threads", "--output", str(path)],
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        )
        driver.run(options.outstanding, now_ns(), options.seconds + 1)
        _, problem = process.communicate(timeout=60)
        if not path.exists():
            print(f"py-spy failed: {problem[-300:]}", file=sys.stderr)
            return Counter()
        samples: Counter[str] = Counter()
        for line in path.read_text().splitlines():
            stack, _, count = line.rpartition(" ")
            frames = stack.split(";")
            samples[f"{frames[0]}: {frames[-1]}"] += int(count)
    return samples


def _threads(
    results: case.Results, driver: Driver, process: WorkerProcess, options: argparse.Namespace
) -> None:
    marks: list[tuple[int, dict[int, int]]] = []
    start = now_ns() + NS_PER_S
    edges = [start, start + int(options.seconds * NS_PER_S)]

    def look(*_: object) -> None:
        # Between two answers: they come every few milliseconds.
        if len(marks) < len(edges) and now_ns() >= edges[len(marks)]:
            marks.append((now_ns(), thread_times(process.pid)))

    load = driver.run(options.outstanding, start, options.seconds + 0.2, look)
    if len(marks) < 2:
        raise RuntimeError("too few answers came to measure between them")
    names = thread_names(process.pid)
    (began, before), (ended, after) = marks
    seconds = (ended - began) / NS_PER_S
    requests = load.rate * seconds
    batches = requests / max(1.0, load.mean_rows)
    spent = {tid: after[tid] - before.get(tid, 0) for tid in after}
    results.add("load", {"rate": load.rate, "mean_rows": load.mean_rows}, "mixed run",
                f"{load.rate:,.0f} img/s", f"{load.mean_rows:.1f} rows a batch, "
                f"{batches / seconds:,.0f} batches a second")
    table = []
    for tid, nanoseconds in sorted(spent.items(), key=lambda item: -item[1]):
        name = names.get(tid, "ended")
        share = nanoseconds / seconds / NS_PER_S
        each, per_request = nanoseconds / 1e3 / batches, nanoseconds / 1e3 / requests
        table.append({"thread": tid, "name": name, "share": share, "us_a_batch": each,
                      "us_a_request": per_request})
        if share >= _LEAST_SHARE:
            results.add("threads", table, f"{name} ({tid})", f"{each:.0f} us a batch",
                        f"{per_request:.1f} us a request, {share:.1%} of a core")
    total = sum(spent.values()) / 1e3
    results.add("total", {"us_a_batch": total / batches, "us_a_request": total / requests},
                "all threads", f"{total / batches:.0f} us a batch",
                f"{total / requests:.1f} us a request, "
                f"{total / 1e6 / seconds:.1%} of a core")


def main() -> None:
    """Measure and print."""
    given = arguments()
    given.description = __doc__
    given.add_argument("--functions", action="store_true")
    options = parse(given, 5.0)
    with case.repository(options) as folder:
        settings = settings_for(folder, options.device, options.lanes)
        results = case.Results("The worker's processor time", options)
        with worker(settings, options.device, options.load_seconds) as process:
            driver = driver_for(process, options, make_images(options))
            with results.step("threads"):
                _threads(results, driver, process, options)
            if options.functions:
                with results.step("functions"):
                    samples = functions(driver, options, process.pid)
                    total = max(1, sum(samples.values()))
                    for name, count in samples.most_common(_SHOWN):
                        results.add("functions", dict(samples.most_common(200)), name,
                                    f"{count / total:.1%}", "of the samples")
    results.finish()


if __name__ == "__main__":
    main()
