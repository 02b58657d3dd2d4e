"""The case that the project exists for: images of three sizes, evenly mixed, on one device.

    python -m benchmarks.gpu.mixed [--device cuda:0] [--steps baseline,compute,worker]
                                   [--budget 300] [--json FILE]

Three steps, each a process of its own with a time limit: one image at a time, as users have it;
computing alone, which is the most there is; and through a real worker process, with its results
against the CPU's and the share of the copies' time that lies under other batches' computing.
"""

from typing import Any

from benchmarks.gpu import case, group
from benchmarks.gpu.through_worker import arguments, parse

STEPS = {
    "baseline": ("baseline", 60.0), "compute": ("compute", 120.0),
    "worker": ("through_worker", 180.0),
}
"""Each step's module and its limit in seconds, beside --load-seconds."""


def main() -> None:
    """Run the steps and print the ratios."""
    given = arguments()
    given.description = __doc__
    given.add_argument("--steps", default=",".join(STEPS))
    given.add_argument("--budget", type=float, default=420.0,
                       help="seconds after which no step begins and the running one is ended")
    given.add_argument("--graphs", action="store_true", help="captured graphs too, by hand")
    given.add_argument("--lane-counts", default="1,2,3")
    given.add_argument("--batches", default="")
    options = parse(given, 4.0)
    results = case.Results("Mixed sizes", options)
    found: dict[str, Any] = {}
    with case.repository(options) as folder:
        results.add("build_seconds", results.seconds)
        extra = {
            "baseline": ["--graphs"] * options.graphs,
            "compute": ["--graphs"] * options.graphs + [
                "--lane-counts", options.lane_counts, "--batches", options.batches
            ],
            "worker": ["--outstanding", str(options.outstanding),
                       "--references", str(options.references)]
                      + ["--check-only"] * options.check_only,
        }
        for name in options.steps.split(","):
            module, limit = STEPS[name]
            left = options.budget - results.seconds
            with results.step(name):
                if left <= 0:
                    raise RuntimeError("the time is used up")
                print(f"--- {name}", flush=True)
                values = group.run_step(
                    module, case.pass_on(options, folder) + extra[name],
                    min(left, limit + options.load_seconds),
                )
                results.add(name, {k: v for k, v in values.items() if k != "options"})
                found |= values
    _sum_up(results, found)
    results.finish()


def _sum_up(results: case.Results, found: dict[str, Any]) -> None:
    """The rows of the table and the ratios."""
    for key, value in found.items():
        if key.endswith("_error"):
            results.add(key, value, key.replace("_", " "), "", str(value)[-200:])
    if "check" in found:
        check = found["check"]
        results.add(
            "correct", check["compared"] > 0 and check["compared"] == check["argmax_agree"],
            "a. results against the CPU", f"{check['argmax_agree']}/{check['compared']} agree",
            f"worst error {check['worst_relative_error']:.4f}; images differ by at least "
            f"{check['least_difference_between_images']:.3f}",
        )
    if "baseline" in found:
        results.add(
            "baseline_rate", found["baseline"], "b. one image at a time",
            f"{found['baseline']:,.0f} img/s",
            f"session.run {found.get('plain_rate', 0):,.0f}, bound "
            f"{found.get('bound_rate', 0):,.0f}",
        )
    if "compute_only" in found:
        results.add(
            "compute_only", found["compute_only"], "c. compute only",
            f"{found['compute_only']:,.0f} img/s",
            ", ".join(f"{key.removeprefix('compute_')} {value:,.0f}"
                      for key, value in found.items()
                      if key.startswith("compute_") and "_lanes_" in key),
        )
    load = found.get("load")
    if not load:
        return
    results.add("worker_rate", load["rate"], "d. through the worker", f"{load['rate']:,.0f} img/s",
                f"p50 {load['p50_ms']:.1f} ms, p99 {load['p99_ms']:.1f} ms, "
                f"{load['mean_rows']:.1f} rows a batch, {load['failures']} failures")
    for key, name in (("baseline", "b"), ("compute_only", "c")):
        if found.get(key):
            ratio = load["rate"] / found[key]
            results.add(f"ratio_to_{key}", ratio, f"   d / {name}", f"{ratio:.3f}")
    trace = found.get("trace")
    if trace and trace["traced_batches"]:
        results.add("hidden_share", trace["hidden_share"], "e. copying hidden under computing",
                    f"{trace['hidden_share']:.1%}",
                    f"compute busy {trace['compute_busy']:.1%} of the time")


if __name__ == "__main__":
    main()
