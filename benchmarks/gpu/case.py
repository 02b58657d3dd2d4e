"""What the GPU benchmarks share: options, the mixed-sizes case, results as a table and as JSON.

The case: ResNet50 in FP16, one engine for each of three image sizes, UINT8 images of all sizes
mixed evenly. The engines are the variants of one version of one model.
"""

import argparse
import contextlib
import json
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.gpu import resnet50
from trtserve.cli.output import print_table
from trtserve.clock import now_ns
from trtserve.device.host import HostDevice
from trtserve.device.interface import Device

ROOT = Path(__file__).resolve().parents[2]
"""The checkout: child processes import from it too."""

MODEL = "resnet50"
SIZES = "160,224,288"
QUICK_SIZES = "32,48,64"
CHANNELS = 3
_GRID = 8
"""Squares of colour along one side of an image."""


def parser(doc: str | None) -> argparse.ArgumentParser:
    """The options of all these benchmarks."""
    given = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    given.add_argument("--device", default="cuda:0", help="cpu, cuda:0 and so on")
    given.add_argument("--sizes", default="", help=f"image sizes; default {SIZES}")
    given.add_argument("--quick", action="store_true",
                       help=f"a trial on any machine: sizes {QUICK_SIZES}, short, few images")
    given.add_argument("--seconds", type=float, default=0.0, help="each measured window")
    given.add_argument("--images", type=int, default=0, help="different images of each size")
    given.add_argument("--batch", type=int, default=32, help="the largest batch")
    given.add_argument("--lanes", type=int, default=0, help="0: the device's default")
    given.add_argument("--folder", type=Path,
                       help="keep the model repository here and use it again")
    given.add_argument("--config", default="",
                       help="text added to config.pbtxt, which baseline and compute do not read")
    given.add_argument("--load-seconds", type=float, default=240.0,
                       help="how long loading and warming up may take")
    given.add_argument("--json", type=Path, help="write the results here")
    return given


def parse(given: argparse.ArgumentParser, seconds: float = 5.0) -> argparse.Namespace:
    """Parse the command line; fill in what --quick and the benchmark choose."""
    options = given.parse_args()
    # An end from outside has to end the children too: as an exception it does.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    options.sizes = options.sizes or (QUICK_SIZES if options.quick else SIZES)
    options.seconds = options.seconds or (1.5 if options.quick else seconds)
    options.images = options.images or (12 if options.quick else 128)
    paths = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), *filter(None, paths)])
    return options


def sizes_of(options: argparse.Namespace) -> list[int]:
    """The image sizes as numbers."""
    return [int(size) for size in options.sizes.split(",")]


def pass_on(options: argparse.Namespace, folder: Path, **changed: object) -> list[str]:
    """The shared options as arguments for another of these benchmarks."""
    values = {
        name: getattr(options, name)
        for name in ("device", "sizes", "seconds", "images", "batch", "lanes", "config",
                     "load_seconds")
    }
    values |= {"folder": folder} | changed
    arguments = [f"--{name.replace('_', '-')}={value}" for name, value in values.items()]
    return arguments + ["--quick"] * options.quick


# --- the model ---------------------------------------------------------------------------


@contextlib.contextmanager
def repository(options: argparse.Namespace) -> Iterator[Path]:
    """A model repository with the case's model; removed afterwards unless --folder was given."""
    folder = options.folder or Path(tempfile.mkdtemp(prefix="trtserve-bench-"))
    try:
        build(folder, sizes_of(options), options.batch, options.config)
        yield folder
    finally:
        if options.folder is None:
            shutil.rmtree(folder, ignore_errors=True)


def build(folder: Path, sizes: Sequence[int], batch: int, config: str = "") -> None:
    """Write the engines that are not there yet, and the configuration."""
    for size in sizes:
        path = model_path(folder, size)
        if not path.exists():
            unfinished = path.with_suffix(".part")
            resnet50.build(unfinished, size)
            unfinished.rename(path)
    for path in (folder / MODEL / "1").glob("*.onnx"):
        if int(path.stem) not in sizes:
            path.unlink()  # another run's size; it would be loaded and warmed up too
    path, text = folder / MODEL / "config.pbtxt", f"max_batch_size: {batch}\n{config}\n"
    # Children of one run come here at once: what is right already is left alone.
    if not path.exists() or path.read_text() != text:
        path.write_text(text)


def model_path(folder: Path, size: int) -> Path:
    """The engine for images of that size."""
    return folder / MODEL / "1" / f"{size}.onnx"


def images(size: int, count: int) -> np.ndarray:
    """UINT8 [count, 3, size, size]: squares of random colours under noise, the same each time.

    Pure noise would not do: averaged over the image it is the same for all images, the logits
    would hardly differ, and a result given to the wrong request would go unnoticed.
    """
    random = np.random.default_rng(size)
    squares = random.integers(0, 224, (count, CHANNELS, _GRID, _GRID), np.uint8)
    scale = -(-size // _GRID)
    large = squares.repeat(scale, 2).repeat(scale, 3)[:, :, :size, :size]
    noise = random.integers(0, 32, large.shape, np.uint8)
    return np.ascontiguousarray(large + noise)


def mixed(sizes: Sequence[int], count: int, seed: int = 0) -> list[tuple[int, int]]:
    """An order of (size, image): evenly mixed, each size `count` times, shuffled."""
    order = [(size, image) for image in range(count) for size in sizes]
    turn = np.random.default_rng(seed).permutation(len(order))
    return [order[at] for at in turn]


def reference(path: Path, pixels: np.ndarray) -> np.ndarray:
    """ONNX Runtime's results on the CPU, FP32 [count, 1000]."""
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        str(path), settings, providers=["CPUExecutionProvider"]
    )
    rows = [session.run(None, {"image": image[None]})[0][0] for image in pixels]
    return np.stack(rows).astype(np.float32)


def relative_error(found: np.ndarray, expected: np.ndarray) -> float:
    """The largest difference between two rows of logits over the largest logit."""
    wide = expected.astype(np.float32)
    return float(np.abs(found.astype(np.float32) - wide).max() / np.abs(wide).max())


# --- the device --------------------------------------------------------------------------


def open_device(name: str, lanes: int = 0) -> Device:
    """The device of that name, for this process and this thread."""
    if name == "cpu":
        return HostDevice(lanes)
    from trtserve.device.cuda import CudaDevice

    return CudaDevice(int(name.removeprefix("cuda:")), lanes)


# --- results -----------------------------------------------------------------------------


class Results:
    """Collects figures, keeps the file up to date after each, and prints the table at the end.

    A step that fails is a row too: the others' device time is not lost.
    """

    def __init__(self, title: str, options: argparse.Namespace) -> None:
        self.values: dict[str, Any] = {
            "title": title,
            "options": {
                key: str(value) if isinstance(value, Path) else value
                for key, value in vars(options).items()
            },
        }
        self._path = options.json
        self._title = f"{title}: {options.device}, {len(os.sched_getaffinity(0))} cores"
        self._rows: list[tuple[str, str, str]] = []
        self._began_ns = now_ns()

    def add(self, key: str, value: Any, what: str = "", figure: str = "", note: str = "") -> None:
        """Record a value and, with `what`, a row of the table."""
        self.values[key] = value
        if what:
            self._rows.append((what, figure, note))
            print(f"{self.seconds:6.1f} s  {what}: {figure}  {note}", flush=True)
        self._write()

    @contextlib.contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Go on after a failure inside, which becomes a row."""
        try:
            yield
        except (Exception, SystemExit) as error:
            text = f"{type(error).__name__}: {error}"
            self.add(f"{name}_error", text, f"{name} failed", "", text[-300:])

    def quiet(self) -> None:
        """Write no file: these are a part of others."""
        self._path = None

    @property
    def seconds(self) -> float:
        """Since the start."""
        return (now_ns() - self._began_ns) / 1e9

    def finish(self) -> None:
        """Print the table. Exits with 1 if a step failed."""
        self.add("took_seconds", round(self.seconds, 1))
        print()
        print_table(("what", "figure", "note"), self._rows, title=self._title)
        if any(key.endswith("_error") for key in self.values):
            sys.exit(1)

    def _write(self) -> None:
        if self._path is not None:
            self._path.write_text(json.dumps(self.values, indent=2, default=float) + "\n")


def rounded(values: Mapping[str, Any]) -> dict[str, Any]:
    """Floats with four figures after the point, for JSON."""
    return {k: round(v, 4) if isinstance(v, float) else v for k, v in values.items()}


def percentile(values: Sequence[float] | np.ndarray, share: float) -> float:
    """The value below which that share lies; 0 of nothing."""
    return float(np.percentile(np.asarray(values), 100 * share)) if len(values) else 0.0
