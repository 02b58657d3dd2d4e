"""The mixed case over gRPC: the real daemon, and client processes on the same machine.

    python -m benchmarks.gpu.over_grpc [--devices cuda:0] [--front-ends 4,6,8]
                                       [--compute-only RATE | --mixed mixed.json]

`stream` sends an image a message over ModelStreamInfer; `batch` sends some in one InferBatch;
`unary` one a call. Says who takes the processor time, and the ratio to computing alone.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from benchmarks.gpu import case, client
from benchmarks.gpu.daemon import Daemon, cores_note, daemon, load

_WARM_S = 1.5


def compute_only(options: argparse.Namespace) -> float:
    """What the device could do; 0 where nobody said."""
    if options.compute_only:
        return float(options.compute_only)
    if options.mixed is not None:
        return float(json.loads(options.mixed.read_text()).get("compute_only", 0.0))
    return 0.0


def commands(server: Daemon, options: argparse.Namespace, mode: str) -> list[list[str]]:
    """The clients. Enough in flight for four batches of each size, whatever the mode."""
    sizes = len(case.sizes_of(options))
    wanted = options.outstanding or 4 * options.batch * sizes * options.devices.count(",") \
        + 4 * options.batch * sizes
    each = options.infer_batch if mode == "batch" else 1
    depth = max(1, round(wanted / (options.clients * options.channels * each)))
    return [
        client.command(
            server.grpc, payload="images", mode=mode, seconds=options.seconds,
            sizes=options.sizes, images=options.client_images, batch=options.infer_batch,
            channels=options.channels, depth=depth, seed=seed,
        )
        for seed in range(options.clients)
    ]


def arguments(doc: str | None) -> argparse.ArgumentParser:
    """The options."""
    given = case.parser(doc)
    given.add_argument("--devices", default="", help="default: --device")
    given.add_argument("--front-ends", default="", help="default 4,6,8")
    given.add_argument("--clients", type=int, default=0, help="client processes; default 8")
    given.add_argument("--channels", type=int, default=4, help="connections of each client")
    given.add_argument("--client-images", type=int, default=16, help="of each size and client")
    given.add_argument("--infer-batch", type=int, default=8, help="images of one InferBatch")
    given.add_argument("--outstanding", type=int, default=0)
    given.add_argument("--modes", default="stream,batch")
    given.add_argument("--compute-only", type=float, default=0.0, help="images a second")
    given.add_argument("--mixed", type=Path, help="the JSON file of benchmarks.gpu.mixed")
    given.add_argument("--budget", type=float, default=400.0,
                       help="seconds after which no daemon is started")
    return given


def parse(given: argparse.ArgumentParser) -> argparse.Namespace:
    """Fill in what is left open."""
    options = case.parse(given, 5.0)
    options.devices = options.devices or options.device
    options.front_ends = options.front_ends or ("1" if options.quick else "4,6,8")
    options.clients = options.clients or (1 if options.quick else 8)
    return options


def sweep(
    results: case.Results, options: argparse.Namespace, folder: Path, bound: float
) -> dict[str, tuple[float, int]]:
    """Every number of front ends and every mode; the best rate of each mode, and with what."""
    best: dict[str, tuple[float, int]] = {}
    for count in (int(count) for count in options.front_ends.split(",")):
        if results.seconds > options.budget:
            results.add(f"front_ends_{count}", None, f"{count} front ends", "skipped",
                        "the time is used up")
            continue
        flags = ["--devices", options.devices, "--front-ends", str(count)]
        if options.lanes:
            flags += ["--lanes", str(options.lanes)]
        with results.step(f"front_ends_{count}"), \
                daemon(folder, flags, options.load_seconds) as server:
            for mode in options.modes.split(","):
                with results.step(f"{mode}_{count}"):
                    found: dict[str, Any] = load(
                        server, commands(server, options, mode), _WARM_S, options.seconds
                    )
                    rate = found["rate"]
                    share = f", {rate / bound:.3f} of compute only" if bound else ""
                    results.add(
                        f"{mode}_{count}_front_ends", found, f"{mode}, {count} front ends",
                        f"{rate:,.0f} img/s{share}", cores_note(found),
                    )
                    best[mode] = max(best.get(mode, (0.0, 0)), (rate, count))
    return best


def main() -> None:
    """Sweep and print."""
    options = parse(arguments(__doc__))
    bound = compute_only(options)
    results = case.Results("Over gRPC", options)
    with case.repository(options) as folder:
        best = sweep(results, options, folder, bound)
    for mode, (rate, count) in best.items():
        share = f", {rate / bound:.3f} of compute only" if bound else ""
        results.add(f"best_{mode}", rate, f"the best of {mode}", f"{rate:,.0f} img/s{share}",
                    f"{count} front ends")
        if bound:
            results.add(f"ratio_{mode}", rate / bound)
    results.finish()


if __name__ == "__main__":
    main()
