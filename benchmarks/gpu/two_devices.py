"""Two devices against one: a worker and a driver process for each, and optionally over gRPC.

    python -m benchmarks.gpu.two_devices [--devices cuda:0,cuda:1] [--grpc] [--front-ends 8]

Each device is measured alone, then all at once, with the same processes. Over gRPC the daemon is
measured with the first device and with all.
"""

from typing import Any

from benchmarks.gpu import case, over_grpc
from benchmarks.gpu.group import Group
from benchmarks.gpu.through_worker import parse as fill_in

_WARM_S = 1.5


def main() -> None:
    """Measure and print the ratios."""
    given = over_grpc.arguments(__doc__)
    given.add_argument("--grpc", action="store_true", help="through the daemon too")
    given.add_argument("--references", type=int, default=0)
    chosen = given.parse_args()
    outstanding = chosen.outstanding
    options = fill_in(given, 5.0)
    devices = options.devices or ("cpu,cpu" if options.device == "cpu" else "cuda:0,cuda:1")
    options.device = devices
    results = case.Results("Two devices", options)
    with case.repository(options) as folder:
        with results.step("workers"):
            _workers(results, [
                ["benchmarks.gpu.through_worker", "--group",
                 f"--outstanding={options.outstanding}",
                 *case.pass_on(options, folder, device=device)]
                for device in devices.split(",")
            ], devices.split(","), options.load_seconds + 10 * options.seconds + 60)
        if options.grpc:
            options.outstanding = outstanding
            options.clients = options.clients or (1 if options.quick else 8)
            options.front_ends = options.front_ends or ("1" if options.quick else "8")
            best: list[dict[str, tuple[float, int]]] = []
            for some in (devices.split(",")[0], devices):
                options.devices = some
                part = case.Results(f"over gRPC on {some}", options)
                part.values.clear()
                part.quiet()
                best.append(over_grpc.sweep(part, options, folder, 0.0))
                results.add(f"grpc_{some}", part.values)
            _ratios(results, best)
    results.finish()


def _workers(
    results: case.Results, commands: list[list[str]], devices: list[str], patience_s: float
) -> None:
    with Group(commands, patience_s) as group:
        alone = []
        for member, device in enumerate(devices):
            (found,) = group.run(_WARM_S, members=[member])
            alone.append(found["rate"])
            results.add(f"alone_{member}", found, f"{device} alone", f"{found['rate']:,.0f} img/s",
                        _note(found))
        together = group.run(_WARM_S)
    total = sum(found["rate"] for found in together)
    results.add("together", together, "all at once", f"{total:,.0f} img/s",
                "; ".join(f"{found['rate']:,.0f}: {_note(found)}" for found in together))
    ratio = total / alone[0] if alone[0] else 0.0
    results.add("ratio", ratio, "   all / the first alone", f"{ratio:.3f}",
                f"{total / max(1e-9, sum(alone)):.3f} of the sum of each alone")


def _ratios(results: case.Results, best: list[dict[str, tuple[float, int]]]) -> None:
    one, all_of_them = best
    for mode, (rate, count) in all_of_them.items():
        if mode not in one or not one[mode][0]:
            continue
        ratio = rate / one[mode][0]
        results.add(f"grpc_ratio_{mode}", ratio, f"{mode} over gRPC, all / the first",
                    f"{ratio:.3f}", f"{rate:,.0f} of {one[mode][0]:,.0f} img/s, "
                    f"{count} front ends")


def _note(found: dict[str, Any]) -> str:
    return f"p99 {found['p99_ms']:.1f} ms, {found['mean_rows']:.1f} rows a batch"


if __name__ == "__main__":
    main()
