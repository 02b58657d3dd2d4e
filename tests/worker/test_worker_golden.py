"""Golden cases are run before a version serves, at the start and when it is loaded later."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.worker.change_stand import ROW, ChangeStand, write_model
from tests.worker.lane_fleet import LoaderStand
from trtserve.errors import ExecutionFailed
from trtserve.model.repository import read_model
from trtserve.model.spec import ANY
from trtserve.testing.engine import FakeEngine, FakeScript, doubling, fake_variant
from trtserve.worker.loading import Loaded, LoadEvent, Progress

X = np.arange(12, dtype=np.float32).reshape(3, 4)


def add_case(
    folder: Path, x: np.ndarray[Any, Any], y: np.ndarray[Any, Any], name: str = "a.npz"
) -> None:
    """A golden case of version 1."""
    golden = folder / "1" / "golden"
    golden.mkdir(exist_ok=True)
    np.savez(golden / name, **{"inputs/x": x, "outputs/y": y})  # type: ignore[arg-type]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_model(tmp_path / "m", 1)


@pytest.mark.parametrize("unified", [False, True])
@pytest.mark.parametrize("pins", [False, True])
def test_a_version_that_computes_as_expected_serves(folder, unified, pins):
    add_case(folder, X, X + X)  # 3 rows: padded where contexts are pinned
    add_case(folder, X[:1], X[:1] + X[:1], "b.npz")
    engine = FakeEngine(script=FakeScript(doubling, pins=pins, captures=pins))
    assert isinstance(load(folder, {"1.fake": engine}, unified=unified), Loaded)


@pytest.mark.parametrize("unified", [False, True])
def test_one_that_does_not_is_not_served_and_leaves_nothing(folder, unified):
    add_case(folder, X, X * 3)
    # Rows of any length: the shape of the case was not warmed up.
    engine = FakeEngine(
        fake_variant(row=(ANY,)), script=FakeScript(doubling, weight_bytes=100)
    )
    event = load(folder, {"1.fake": engine}, unified=unified)
    assert isinstance(event, Progress)
    assert event.update.state == "UNAVAILABLE"
    assert event.update.reason.startswith(
        "golden case a.npz: variant fake: output 'y' is 22.0 at [2, 3], where 33.0 is expected: "
        "off by 11, the largest difference"
    )
    assert "widen tolerances.json" in event.update.reason
    assert event.update.where == str(folder / "1" / "golden" / "a.npz")
    assert engine.closed
    assert all(context.closed for context in engine.contexts)


def test_every_variant_that_takes_the_shapes_is_asked(folder):
    (folder / "1" / "2.fake").write_bytes(b"engine")
    (folder / "1" / "3.fake").write_bytes(b"engine")
    add_case(folder, X, X + X)
    engines = {
        "1.fake": FakeEngine(fake_variant("one"), script=FakeScript(doubling)),
        "2.fake": FakeEngine(fake_variant("two", row=(5,)), script=FakeScript(doubling)),
        "3.fake": FakeEngine(fake_variant("three")),
    }
    event = load(folder, engines)
    assert isinstance(event, Progress)
    assert "variant three: output 'y'" in event.update.reason


def test_a_case_that_no_variant_takes(folder):
    add_case(folder, np.ones((9, 4), np.float32), np.ones((9, 4), np.float32))
    event = load(folder, {"1.fake": FakeEngine()})
    assert isinstance(event, Progress)
    assert "no variant takes x [9, 4]. The version takes x FP32[1..8, 4]" in event.update.reason


def test_a_case_that_fails(folder):
    add_case(folder, X, X)

    def refuse_threes(arrays: Any) -> Any:
        if len(arrays[0]) == 3:
            raise ExecutionFailed("no threes")
        return arrays

    event = load(folder, {"1.fake": FakeEngine(script=FakeScript(refuse_threes))})
    assert isinstance(event, Progress)
    assert "variant fake fails on it: no threes" in event.update.reason


def test_texts(folder):
    texts = np.array([["a", "bc", "", "é"]])
    add_case(folder, texts, texts)
    assert isinstance(load(folder, {"1.fake": FakeEngine(fake_variant(datatype="BYTES"))}), Loaded)
    add_case(folder, texts, np.array([["a", "bc", "", "e"]]))
    event = load(folder, {"1.fake": FakeEngine(fake_variant(datatype="BYTES"))})
    assert isinstance(event, Progress)
    assert "another text at [0, 3]" in event.update.reason


def test_a_swap_to_a_model_that_computes_something_else_is_refused(changing: ChangeStand):
    changing.serve(changing.model(1))
    front_end = changing.worker.connect()
    variant = changing.ready(front_end)
    before = changing.device.allocated_bytes
    folder = changing.model(1)
    add_case(folder, ROW, ROW * 2)
    staged = changing.staged(changing.load(folder))
    assert "output 'y' is 1.0 at [0, 0], where 2.0 is expected" in staged.error
    assert staged.where.endswith("a.npz")
    assert changing.device.allocated_bytes == before
    front_end.answer(front_end.submit(ROW, variant))


def load(folder: Path, engines: dict[str, FakeEngine], *, unified: bool = False) -> LoadEvent:
    """What becomes of version 1."""
    stand = LoaderStand(unified=unified)
    try:
        events = stand.load({**engines}, read_model("m", folder, (".fake",)))
        taken = stand.device.allocated_bytes + stand.device.staging_bytes
        assert isinstance(events[1], Loaded) or not taken
    finally:
        stand.close()
    return events[1]
