"""What users have: one engine per size, one image at a time, one stream.

    python -m benchmarks.gpu.baseline [--device cuda:0]

`plain` is an ONNX Runtime session per size and `session.run` with a NumPy array. `bound` is the
same as well as it can be done: images in pinned memory, a session made for its one shape, copy
in, run, copy out, synchronise. Both go round the sizes, evenly mixed.
"""

import argparse
import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.gpu import case
from benchmarks.gpu.lane_rig import LaneRig, view_of
from trtserve.clock import NS_PER_S, now_ns
from trtserve.engine.onnxruntime import OnnxRuntime

_WARM_S = 0.5

Step = Callable[[int, int], np.ndarray]
"""Runs one image: its size and number; its logits."""


def rate(step: Step, order: list[tuple[int, int]], seconds: float) -> float:
    """Images a second, one after the other, after a short warm-up."""
    turn = itertools.cycle(order)
    start = now_ns() + int(_WARM_S * NS_PER_S)
    end = start + int(seconds * NS_PER_S)
    done, began = 0, 0
    while (now := now_ns()) < end:
        step(*next(turn))
        if now >= start:
            began = began or now
            done += 1
    return done * NS_PER_S / max(1, now_ns() - began)


def plain_step(folder: Path, pictures: dict[int, np.ndarray], device: str) -> Step:
    """As people write it."""
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 3
    providers: list[object] = ["CPUExecutionProvider"]
    if device != "cpu":
        onnxruntime.preload_dlls()
        number = device.removeprefix("cuda:")
        providers = [("CUDAExecutionProvider", {"device_id": number})]
    sessions = {
        size: onnxruntime.InferenceSession(
            str(case.model_path(folder, size)), settings, providers=providers
        )
        for size in pictures
    }
    wanted = "CPUExecutionProvider" if device == "cpu" else "CUDAExecutionProvider"
    for session in sessions.values():
        if session.get_providers()[0] != wanted:
            raise RuntimeError(f"ONNX Runtime fell back to {session.get_providers()[0]}")

    def step(size: int, number: int) -> np.ndarray:
        image = pictures[size][number : number + 1]
        logits: np.ndarray = sessions[size].run(None, {"image": image})[0]
        return logits.reshape(-1)

    return step


def bound_step(rig: LaneRig, pinned: dict[int, int]) -> Step:
    """As well as it can be done for one image at a time."""
    stream = rig.stream

    def step(size: int, number: int) -> np.ndarray:
        place = rig.places[size]
        place.copy_in(stream, pinned[size] + number * place.in_bytes)
        place.run(stream)
        place.copy_out(stream)
        stream.synchronize()
        return place.result().reshape(-1)

    return step


def _worst(step: Step, folder: Path, pictures: dict[int, np.ndarray], count: int) -> float:
    """The largest relative error against the CPU."""
    return max(
        case.relative_error(step(size, number), row)
        for size, array in pictures.items()
        for number, row in enumerate(case.reference(case.model_path(folder, size), array[:count]))
    )


def _plain(
    results: case.Results, options: argparse.Namespace, folder: Path,
    pictures: dict[int, np.ndarray],
) -> None:
    step = plain_step(folder, pictures, options.device)
    found = rate(step, case.mixed(list(pictures), options.images), options.seconds)
    error = _worst(step, folder, pictures, 2)
    results.add("plain_rate", found, "session.run, an image at a time", f"{found:,.0f} img/s",
                f"worst error {error:.4f}")


def _bound(
    results: case.Results, options: argparse.Namespace, folder: Path,
    pictures: dict[int, np.ndarray], graphs: bool,
) -> None:
    device = case.open_device(options.device, 1)
    runtime = OnnxRuntime()
    engines = {
        size: runtime.load(str(case.model_path(folder, size)), device, {}) for size in pictures
    }
    rig = LaneRig(device, engines, 1, pictures, graphs=graphs)
    staging, pinned = [], {}
    for size, array in pictures.items():
        buffer = device.allocate_staging(array.nbytes)
        view_of(buffer.address, array.nbytes)[:] = array.reshape(-1)
        staging.append(buffer)
        pinned[size] = buffer.address
    step = bound_step(rig, pinned)
    found = rate(step, case.mixed(list(pictures), options.images), options.seconds)
    error = _worst(step, folder, pictures, 2)
    results.add("bound_graph_rate" if graphs else "bound_rate", found,
                f"bound and pinned{' and captured' if graphs else ''}, an image at a time",
                f"{found:,.0f} img/s", f"worst error {error:.4f}")
    rig.close()
    for buffer in staging:
        buffer.close()
    for engine in engines.values():
        engine.close()
    device.close()


def main() -> None:
    """Measure both and print."""
    given = case.parser(__doc__)
    given.add_argument("--graphs", action="store_true", help="also with captured graphs")
    options = case.parse(given, 3.0)
    with case.repository(options) as folder:
        pictures = {size: case.images(size, options.images) for size in case.sizes_of(options)}
        results = case.Results("One image at a time", options)
        with results.step("plain"):
            _plain(results, options, folder, pictures)
        with results.step("bound"):
            _bound(results, options, folder, pictures, graphs=False)
        if options.graphs:
            with results.step("bound_graph"):
                _bound(results, options, folder, pictures, graphs=True)
        rates = [results.values.get(key, 0.0) for key in ("plain_rate", "bound_rate")]
        results.add("baseline", max(rates), "the better of the first two",
                    f"{max(rates):,.0f} img/s")
    results.finish()


if __name__ == "__main__":
    main()
