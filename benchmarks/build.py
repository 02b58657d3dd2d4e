"""What building costs: the OCR models, with nothing in the cache and with everything.

    python -m benchmarks.build [--rounds 5]

Needs TensorRT-RTX (extra `rtx`), which builds without a GPU, and the models of the package
rapidocr-onnxruntime. Each round uses a cache of its own; the median counts.
"""

import argparse
import statistics
import tempfile
from pathlib import Path

from examples.ocr.models import model_files
from trtserve.build.engine_cache import EngineCache
from trtserve.build.make import Made, PlanMaker, Target
from trtserve.build.module import find_module
from trtserve.build.progress import Silent
from trtserve.cli.output import print_line, print_table
from trtserve.clock import NS_PER_S, now_ns
from trtserve.cores import core_count
from trtserve.model.plan_manifest import PlanRequest

SHAPES = {
    "det": "x=1x3x320x320,2x3x640x640,4x3x960x960",
    "cls": "x=1x3x48x192,8x3x48x192,32x3x48x192",
    "rec": "x=1x3x48x160,8x3x48x320,32x3x48x640",
}
"""What the OCR example sends."""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    module = find_module("tensorrt_rtx")
    print_line(f"TensorRT-RTX {module.__version__}, {core_count()} cores, no GPU asked")
    rows = []
    for name, precision in ((name, p) for name in SHAPES for p in ("", "fp16")):
        measured = [measure(module, name, precision) for _ in range(rounds)]
        cold, builder, warm = (statistics.median(times) for times in zip(*(
            (cold, made.plans[0].seconds, warm) for cold, made, warm in measured
        ), strict=True))
        _, made, _ = measured[0]
        rows.append((
            name, precision or "fp32", f"{made.plans[0].bytes / 1e6:.1f}", f"{builder:.2f}",
            f"{cold:.2f}", f"{warm * 1000:.0f}",
        ))
    print_table(
        ("model", "precision", "plan MB", "builder s", "cold s", "from the cache ms"), rows
    )


def measure(module: object, name: str, precision: str) -> tuple[float, Made, float]:
    """Build twice: seconds of the first time, what came of it, seconds of the second time."""
    with tempfile.TemporaryDirectory() as folder:
        maker = PlanMaker(module, None, "not asked", EngineCache(Path(folder) / "cache"), Silent())
        request = PlanRequest(
            model=str(model_files()[name]), profiles=(SHAPES[name],), precision=precision,
            fix=True,
        )
        target = Target(Path(folder) / "models", name)
        began = now_ns()
        made = maker.make(request, target)
        middle = now_ns()
        again = maker.make(request, target)
        end = now_ns()
        assert again.plans[0].cached
        return (middle - began) / NS_PER_S, made, (end - middle) / NS_PER_S


if __name__ == "__main__":
    main()
