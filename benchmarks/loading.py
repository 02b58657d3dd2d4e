"""What loading takes: seconds, and memory at its peak and afterwards, for each model.

    python -m benchmarks.loading [--counts 1,2,4] [--device cpu] [--json FILE]

The OCR models, one after the other in a daemon of its own, which measures them as it loads
(trtserve/worker/load_memory.py); then as many copies of each as `--counts` says, for what the
worker takes in all. Then, without a daemon, plans for the stand-in of TensorRT on a counting
device: three lanes with a context of each plan, whose scratch memory is the lane's, so that it
grows with the largest plan and not with their number. The stand-in has no weights.
"""

import argparse
import json
import tempfile
import urllib.request
from contextlib import closing
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from benchmarks import daemon as daemons
from examples.ocr.models import model_files
from trtserve.cli.output import print_line, print_table
from trtserve.engine.scratch import Scratch
from trtserve.engine.tensorrt import TensorRtRuntime
from trtserve.engine.tensorrt_plan import PlanRules
from trtserve.testing.clock import FakeClock
from trtserve.testing.device import FakeDevice
from trtserve.testing.tensorrt import HostMachine, make_module
from trtserve.testing.tensorrt_plan import make_plan

MB = 1e6
LANES = 3
STAND_IN_BYTES = 1 << 40
SCRATCH = (8 << 20, 32 << 20, 16 << 20)
"""What contexts of the stand-in's plans need, in turn."""


def put_copies(repository: Path, count: int) -> None:
    """So many copies of each model, as links to one file."""
    for name, path in model_files().items():
        for copy in range(count):
            version = repository / (f"{name}-{copy}" if copy else name) / "1"
            version.mkdir(parents=True)
            (version / "model.onnx").symlink_to(path)


def serve(folder: Path, count: int, device: str) -> dict[str, Any]:
    """Serve copies of the models: what each took, and the worker in all."""
    put_copies(folder / "models", count)
    with daemons.running(
        folder / "models", folder, "--devices", device, "--front-ends", "1"
    ) as daemon:
        with urllib.request.urlopen(f"http://{daemon.ready['http']}/metrics") as answer:
            text = answer.read().decode()
        together = daemon.memory()
    found: dict[str, dict[str, float]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            field = {
                "trtserve_model_load_duration_seconds": "seconds",
                "trtserve_model_memory_bytes": "kept",
                "trtserve_model_memory_peak_bytes": "peak",
            }.get(sample.name)
            if field is not None:
                found.setdefault(sample.labels["model"], {})[field] = sample.value
    worker = next(size for name, size in together.items() if "worker" in name)
    return {"copies": count, "models": found, "worker": worker}


def stand_in(folder: Path, count: int) -> dict[str, Any]:
    """So many plans of the stand-in: the device's bytes, and what they would be unshared."""
    device = FakeDevice(FakeClock())
    device.total_bytes = STAND_IN_BYTES
    runtime = TensorRtRuntime(make_module(HostMachine(device)), PlanRules(writable=True))
    scratches = [Scratch(device) for _ in range(LANES)]
    streams = [device.create_stream() for _ in range(LANES)]
    before = device.allocated_bytes
    opened: list[Any] = []
    for number in range(count):
        path = str(folder / f"{number}.plan")
        make_plan(path, scratch=(SCRATCH[number % len(SCRATCH)],))
        engine = runtime.load(path, device, {})
        contexts = [
            engine.create_context(0, stream, None, scratch)
            for stream, scratch in zip(streams, scratches, strict=True)
        ]
        opened += [*contexts, engine]
    figures = {
        "plans": count,
        "scratch": sum(scratch.size for scratch in scratches),
        "unshared": sum(scratch.unshared for scratch in scratches),
        "device": device.allocated_bytes - before,
    }
    for each in opened:
        with closing(each):
            pass
    return figures


def show(found: dict[str, Any]) -> None:
    """The figures as tables."""
    print_table(
        ("model", "seconds", "kept MB", "peak MB"),
        [
            (name, f"{f['seconds']:.2f}", f"{f['kept'] / MB:.1f}", f"{f['peak'] / MB:.1f}")
            for name, f in found["served"][0]["models"].items()
        ],
    )
    print_line()
    print_table(
        ("copies of each", "models", "seconds in all", "worker MB"),
        [
            (served["copies"], len(served["models"]),
             f"{sum(f['seconds'] for f in served['models'].values()):.2f}",
             f"{served['worker'] / MB:.1f}")
            for served in found["served"]
        ],
    )
    print_line()
    print_table(
        ("stand-in's plans", f"scratch of {LANES} lanes MB", "unshared MB", "device in all MB"),
        [
            (f["plans"], *(f"{f[name] / MB:.1f}" for name in ("scratch", "unshared", "device")))
            for f in found["stand_in"]
        ],
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--counts", type=lambda text: [int(word) for word in text.split(",")], default=[1, 2, 4],
        help="copies of each model",
    )
    parser.add_argument("--device", default="cpu", help="such as cuda:0")
    parser.add_argument("--json", type=Path, help="write the figures there too")
    options = parser.parse_args()
    found: dict[str, Any] = {"device": options.device, "served": [], "stand_in": []}
    with tempfile.TemporaryDirectory() as folder:
        for count in options.counts:
            found["served"].append(serve(Path(folder) / str(count), count, options.device))
        for count in (1, 3, 10, 30):
            found["stand_in"].append(stand_in(Path(folder), count))
    show(found)
    if options.json is not None:
        options.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
