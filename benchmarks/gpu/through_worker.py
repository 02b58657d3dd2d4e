"""The mixed case through one real worker process: rate, latency, correctness, hidden copies.

    python -m benchmarks.gpu.through_worker [--device cuda:0] [--check-only] [--group]

With --group it is a child of a run that several of them share (see group.py).
"""

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.gpu import case, group
from benchmarks.gpu.checker import Checker
from benchmarks.gpu.front_end import (
    Driver,
    Load,
    WorkerProcess,
    place,
    settings_for,
    worker,
)
from benchmarks.gpu.overlap import overlap
from trtserve.clock import NS_PER_S, now_ns

_CHECK_S, _TRACE_S = 1.5, 2.0


def driver_for(
    process: WorkerProcess, options: argparse.Namespace, pictures: dict[int, np.ndarray]
) -> Driver:
    """A driver that goes round all images, evenly mixed."""
    order = case.mixed(list(pictures), options.images)
    return Driver(process, place(process, case.MODEL, pictures, order))


def make_images(options: argparse.Namespace) -> dict[int, np.ndarray]:
    """The images of each size."""
    return {size: case.images(size, options.images) for size in case.sizes_of(options)}


def check(
    driver: Driver, options: argparse.Namespace, folder: Path, pictures: dict[int, np.ndarray]
) -> dict[str, Any]:
    """Results under full load against the CPU's, and against one another."""
    expected = {
        size: case.reference(case.model_path(folder, size), array[: options.references])
        for size, array in pictures.items()
    }
    checker = Checker(driver, expected)
    seconds = options.seconds if options.quick else _CHECK_S
    load = driver.run(options.outstanding, now_ns(), seconds, checker)
    return {
        "compared": checker.compared, "argmax_agree": checker.agree,
        "worst_relative_error": checker.worst, "repeated": checker.repeated,
        "worst_difference_between_runs": checker.spread,
        "least_difference_between_images": checker.distinct(), "failures": load.failures,
        "first_failure": load.first_failure,
    }


def measure(driver: Driver, options: argparse.Namespace, start_ns: int) -> Load:
    """One window at full load."""
    return driver.run(options.outstanding, start_ns, options.seconds)


def traced(driver: Driver, options: argparse.Namespace) -> dict[str, Any]:
    """A window with tracing on: how much of the copying lies under other batches' computing."""
    driver.traced.clear()
    driver.trace(True)
    start = now_ns()
    load = driver.run(options.outstanding, start, _TRACE_S)
    driver.trace(False)
    # Without the start and the end, where the device fills and empties.
    begin, end = start + NS_PER_S // 4, start + int(_TRACE_S * NS_PER_S) - NS_PER_S // 4
    batches = [batch for batch in driver.traced if begin < batch.began_ns < end]
    found = overlap(batches)
    return {"traced_rate": load.rate, "traced_batches": len(batches), **found}


def arguments() -> argparse.ArgumentParser:
    """The options, which other benchmarks pass on."""
    given = case.parser(__doc__)
    given.add_argument("--outstanding", type=int, default=0,
                       help="requests with the worker; default 4 batches of each size")
    given.add_argument("--references", type=int, default=0,
                       help="images of each size that the CPU runs too; default 8")
    given.add_argument("--check-only", action="store_true")
    given.add_argument("--group", action="store_true")
    return given


def parse(given: argparse.ArgumentParser, seconds: float = 6.0) -> argparse.Namespace:
    """Fill in what is left open."""
    options = case.parse(given, seconds)
    options.outstanding = options.outstanding or 4 * options.batch * len(case.sizes_of(options))
    options.references = min(options.references or (4 if options.quick else 8), options.images)
    return options


def main() -> None:
    """Measure and print."""
    options = parse(arguments())
    with case.repository(options) as folder:
        settings = settings_for(folder, options.device, options.lanes)
        pictures = make_images(options)
        began = now_ns()
        with worker(settings, options.device, options.load_seconds) as process:
            loading_s = (now_ns() - began) / NS_PER_S
            driver = driver_for(process, options, pictures)
            if options.group:
                while (start := group.say_ready()) is not None:
                    group.say_result(asdict(measure(driver, options, start)))
                return
            results = case.Results("Through the worker", options)
            results.add("loading_seconds", loading_s, "loading and warming up",
                        f"{loading_s:.1f} s")
            _steps(results, driver, options, folder, pictures)
    results.finish()


def _steps(
    results: case.Results, driver: Driver, options: argparse.Namespace, folder: Path,
    pictures: dict[int, np.ndarray],
) -> None:
    with results.step("check"):
        found = check(driver, options, folder, pictures)
        results.add(
            "check", found, "results against the CPU",
            f"{found['argmax_agree']}/{found['compared']} argmax agree",
            f"worst error {found['worst_relative_error']:.4f}, between runs "
            f"{found['worst_difference_between_runs']:.4f}; images differ by at least "
            f"{found['least_difference_between_images']:.3f}; {found['failures']} failures "
            f"{found['first_failure']}",
        )
    if options.check_only:
        return
    with results.step("load"):
        load = measure(driver, options, now_ns() + NS_PER_S)
        results.add(
            "load", case.rounded(asdict(load)), "through the worker", f"{load.rate:,.0f} img/s",
            f"p50 {load.p50_ms:.1f} ms, p99 {load.p99_ms:.1f} ms, max {load.max_ms:.1f} ms, "
            f"{load.mean_rows:.1f} rows a batch, {load.failures} failures",
        )
        results.add(
            "compute_us", load.compute_us, "stages of a batch",
            f"{load.compute_us:,.0f} us compute",
            f"in {load.h2d_us:,.0f} us, out {load.d2h_us:,.0f} us",
        )
    with results.step("trace"):
        found = traced(driver, options)
        if found["traced_batches"]:
            results.add(
                "trace", case.rounded(found), "copying hidden under computing",
                f"{found['hidden_share']:.1%}",
                f"in {found['hidden_in_share']:.1%}, out {found['hidden_out_share']:.1%}; compute "
                f"busy {found['compute_busy']:.1%}, copying {found['copy_busy']:.1%}; "
                f"{found['traced_batches']} batches, {found['traced_rate']:,.0f} img/s",
            )
        else:
            results.add("trace", found, "copying hidden under computing", "not known",
                        "the worker sent no traces")


if __name__ == "__main__":
    main()
