"""Models that come and go on a real device while the real daemon serves: no call fails, and the
device's memory comes back."""

import os
from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.e2e.daemon_process import Daemon, running
from tests.e2e.repositories import add_model, add_plus, swap_plus
from tests.e2e.traffic import Traffic
from trtserve.client import Client, FailedPrecondition
from trtserve.clock import NS_PER_MS, now_ns
from trtserve.device.cuda import CudaDevice
from trtserve.testing.models import make_matmul

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}

MIB = 1 << 20
INNER, COLUMNS = 2048, 4096
WEIGHT_BYTES = INNER * COLUMNS * 4
"""Of the model `dense`, 32 MiB: what it takes at least."""
TOLERANCE_BYTES = 8 * MIB
"""Free memory may be that much less afterwards: what the driver and the libraries keep. A quarter
of the weights, so that a model that stays is seen."""

CALLERS = 4
SWAPS = 4
ROUNDS = 8


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the repository and the socket of this module's daemon are."""
    return tmp_path_factory.mktemp("changes")


@pytest.fixture(scope="module")
def daemon(folder: Path) -> Iterator[Daemon]:
    """A daemon with `plus` loaded and `dense` beside it."""
    add_plus(folder / "models")
    add_model(
        folder / "models", "dense", lambda path: make_matmul(path, INNER, COLUMNS),
        config="max_batch_size: 4",
    )
    flags = (
        "--devices", "cuda:0", "--front-ends", "2", "--model-control-mode", "explicit",
        "--load-models", "plus", "--socket", str(folder / "socket"),
    )
    with running(folder / "models", folder, *flags, environment=ENVIRONMENT) as daemon:
        yield daemon


@pytest.fixture(autouse=True)
def daemon_log(daemon: Daemon) -> Iterator[None]:
    """What the daemon wrote during a test, for the report of one that fails."""
    before = len(daemon.log)
    yield
    print("the daemon's log, its last lines:", *daemon.log[before:].splitlines()[-40:], sep="\n")


@pytest.fixture
def control(daemon: Daemon, folder: Path) -> Iterator[Client]:
    """A client that may change models."""
    with Client(f"unix:{folder}/socket", retry=False) as client:
        yield client


def added(client: Client, rows: int = 3) -> float:
    """What `plus` adds: the same everywhere in the answer."""
    y = client.infer("plus", {"x": np.zeros((rows, 32), np.float32)}, deadline=30)["y"]
    assert y.shape == (rows, 32)
    assert (y == y[0, 0]).all(), f"more than one value in an answer: {np.unique(y)}"
    return float(y[0, 0])


def dense(client: Client, x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """What `dense` makes of x."""
    return client.infer("dense", {"x": x}, deadline=30)["y"]


def deviation(client: Client, x: np.ndarray[Any, Any], expected: np.ndarray[Any, Any]) -> float:
    """How far `dense` is off, as a part of the largest value: no more than TF32 makes it."""
    off = float(np.abs(dense(client, x) - expected).max() / np.abs(expected).max())
    assert off < 3e-3, "a wrong answer"
    return off


def free(device: CudaDevice) -> int:
    """Bytes of the device's memory that are free."""
    return device.memory()[0]


def freed(daemon: Daemon, change: Callable[[], None], what: str) -> None:
    """Make a change of `dense`, and wait until what it replaces is freed, which is a moment after
    the answer; the log says so."""
    line = f"model dense: {what}"
    before = daemon.log.count(line)
    change()
    daemon.until(lambda: daemon.log.count(line) > before, f"the line: {line}")


def test_swaps_under_traffic_fail_no_call(daemon: Daemon, control: Client, folder: Path) -> None:
    with Traffic(daemon.grpc, [added] * CALLERS) as traffic:
        traffic.each_gets(20)
        for value in range(2, 2 + SWAPS):
            swap_plus(folder / "models", value)
            began = now_ns()
            control.load("plus")
            took_ms = (now_ns() - began) // NS_PER_MS
            print(f"plus {value} loaded in {took_ms} ms, {traffic.total} requests answered")
            for turn in range(4):  # new connections: some to each front end
                with Client(daemon.grpc, retry=False) as other:
                    found = added(other)
                    assert found == value, f"connection {turn} after the load of {value}"
            traffic.each_gets(20)
            status, body = daemon.get("/readyz")
            assert status == 200, f"not ready after the load of {value}: {body}"
    for number, mine in enumerate(traffic.answers):
        changes = [pair for pair in pairwise(mine) if pair[0] != pair[1]]
        told = f"client {number} got {len(mine)} answers, which changed so: {changes}"
        assert set(mine) == set(range(1, 2 + SWAPS)), f"one of neither old nor new: {told}"
        assert mine == sorted(mine), f"an old one after a new one: {told}"
    print(f"{traffic.total} requests answered in {SWAPS} swaps")


def test_a_failed_load_keeps_serving_and_its_memory_comes_back(
    daemon: Daemon, control: Client, folder: Path, device: CudaDevice
) -> None:
    version = folder / "models/dense/1"
    golden = version / "golden"
    x = np.random.default_rng(1).standard_normal((2, INNER), np.float32)
    control.load("dense")
    y = dense(control, x)
    golden.mkdir(exist_ok=True)
    np.savez(golden / "right.npz", **{"inputs/x": x, "outputs/y": y})  # type: ignore[arg-type]
    control.load("dense")  # the golden check on the device
    ask = partial(deviation, x=x, expected=y)
    with Traffic(daemon.grpc, [ask] * CALLERS) as traffic:
        traffic.each_gets(20)
        before = free(device)
        wrong: dict[str, Any] = {"inputs/x": x, "outputs/y": y + 0.1 * np.abs(y).max()}
        np.savez(golden / "wrong.npz", **wrong)
        with pytest.raises(FailedPrecondition, match=r"golden case wrong\.npz: .* serves on"):
            control.load("dense")
        after_golden = free(device)
        traffic.each_gets(20)
        (golden / "wrong.npz").unlink()
        (version / "model.onnx").rename(version / ".kept")
        (version / "model.onnx").write_bytes(b"this is no model")
        with pytest.raises(FailedPrecondition, match=r"not loaded: .*ONNX.* serves on"):
            control.load("dense")
        after_broken = free(device)
        traffic.each_gets(20)
        (version / ".kept").replace(version / "model.onnx")
        freed(daemon, lambda: control.load("dense"), "version 1 in, version 1 out")
        after_swap = free(device)
        traffic.each_gets(20)
        assert control.ready()
    worst = max(map(max, traffic.answers))
    freed(daemon, lambda: control.unload("dense"), "nothing in, version 1 out")
    print(
        f"free MiB: {before / MIB:.0f} before, {after_golden / MIB:.0f} after a load that is off, "
        f"{after_broken / MIB:.0f} after a broken one, {after_swap / MIB:.0f} after a swap; "
        f"{traffic.total} requests answered, off by {worst:.1g} at most"
    )
    assert min(after_golden, after_broken, after_swap) >= before - TOLERANCE_BYTES


def test_memory_comes_back_in_every_round_of_load_and_unload(
    daemon: Daemon, control: Client, device: CudaDevice
) -> None:
    x = np.random.default_rng(2).standard_normal((1, INNER), np.float32)
    control.load("dense")
    expected = dense(control, x)
    figures = []
    # The first load also brings the libraries' kernels, which stay.
    freed(daemon, lambda: control.unload("dense"), "nothing in, version 1 out")
    for _ in range(ROUNDS):
        before = free(device)
        control.load("dense")
        deviation(control, x, expected)
        loaded = free(device)
        freed(daemon, lambda: control.unload("dense"), "nothing in, version 1 out")
        figures.append((before, loaded, free(device)))
    for before, loaded, after in figures:
        print(f"free MiB: {before / MIB:.0f} before, {loaded / MIB:.0f} loaded, "
              f"{after / MIB:.0f} unloaded")
    assert all(loaded < before - WEIGHT_BYTES // 2 for before, loaded, _ in figures)
    assert all(after >= figures[0][0] - TOLERANCE_BYTES for _, _, after in figures)
