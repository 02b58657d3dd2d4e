"""Models that do not come: what serves goes on serving, and nothing of them stays."""

from pathlib import Path

import numpy as np
import pytest

from tests.worker.change_stand import ROW, WEIGHTS
from tests.worker.worker_stand import Gate
from trtserve.errors import DeviceError, ModelLoadError
from trtserve.ipc import message as m
from trtserve.testing.clock import FakeClock
from trtserve.testing.device import FakeDevice
from trtserve.worker.loop import EXIT_DEVICE_LOST

# --- failures ----------------------------------------------------------------------------


def broken() -> ModelLoadError:
    return ModelLoadError("cut off", where="/models/m/2/2.fake", cure="Copy it again")


def test_a_failed_load_leaves_the_old_serving_and_no_byte(changing):
    changing.serve(changing.model(1))
    front_end = changing.worker.connect()
    variant = changing.ready(front_end)
    changing.updates()
    before = changing.device.allocated_bytes
    changing.files["2.fake"] = broken()
    order = changing.load(changing.model(1, 2))
    assert changing.staged(order) == m.Staged(
        order, (), "version 2: cut off. Copy it again", "/models/m/2/2.fake"
    )
    assert changing.updates() == []  # what serves is as it was
    assert changing.device.allocated_bytes == before
    assert [engine.closed for engine in changing.engines["1.fake"]] == [False, True]
    _, output = front_end.answer(front_end.submit(ROW, variant))
    np.testing.assert_array_equal(output, ROW)


def test_a_failed_load_of_what_was_not_there_says_why(changing):
    changing.files["2.fake"] = broken()
    order = changing.load(changing.model(1, 2))
    changing.staged(order)
    updates = [
        each for each in changing.supervisor.waiting() if isinstance(each, m.ModelUpdate)
    ]
    assert [(each.version, each.state) for each in updates] == [
        (1, "LOADING"), (2, "LOADING"), (1, "UNAVAILABLE"), (2, "UNAVAILABLE"),
    ]
    assert updates[2].reason == "version 2 of the model does not load"
    assert updates[3].reason == "cut off. Copy it again"
    changing.check_nothing_is_left()
    # A later load that succeeds leaves nothing of that.
    changing.updates()
    changing.serve(changing.model(1))
    assert changing.updates() == [("m", 1, "LOADING"), ("m", 1, "READY"), ("m", 2, "gone")]


@pytest.mark.parametrize("problem", ["missing", "empty", "configuration"])
def test_a_folder_that_can_not_be_read(changing, problem):
    folder = changing.root / problem
    if problem != "missing":
        folder.mkdir()
    if problem == "configuration":
        (folder / "config.pbtxt").write_text("max_batch: 1")
    order = changing.load(folder)
    staged = changing.staged(order)
    assert staged.error
    assert str(folder) in staged.where
    assert changing.updates() == [("m", 0, "UNAVAILABLE")]
    changing.say(m.AbandonModel(order))
    changing.freed(order)


def test_a_folder_that_can_not_even_be_looked_at_is_an_answer(changing):
    """And the loader's thread lives on, for the orders after it."""
    order = changing.load(Path("a\0b"))
    assert "its log has the details" in changing.staged(order).error
    changing.serve(changing.model(1))


@pytest.mark.parametrize("script", [
    {"failures": {2: KeyError("bug")}}, {"context_failures": {2: DeviceError("no memory")}},
])
def test_whatever_goes_wrong_is_an_answer(changing, script):
    changing.engine("1.fake", **script)
    order = changing.load(changing.model(1))
    assert changing.staged(order).error
    changing.check_nothing_is_left()
    changing.engine("1.fake")
    changing.serve(changing.model(1))


def test_memory_that_is_short_is_a_failed_load(make_changing):
    device = FakeDevice(FakeClock())
    device.total_bytes = 3 * WEIGHTS // 2
    stand = make_changing(device)
    stand.serve(stand.model(1))
    order = stand.load(stand.model(1))
    assert "4096 bytes are needed" in stand.staged(order).error
    assert device.allocated_bytes < 3 * WEIGHTS // 2
    stand.freed(stand.unload())
    assert device.allocated_bytes == 0
    stand.serve(stand.model(1))


@pytest.mark.parametrize("script", [
    {"failures": {1: DeviceError("illegal address", sticky=True)}},
    {"context_failures": {1: DeviceError("illegal address", sticky=True)}},
])
def test_a_device_lost_while_loading_ends_the_worker(make_changing, script):
    stand = make_changing()
    stand.serve(stand.model(1))
    stand.engine("1.fake", **script)
    stand.load(stand.model(1))
    assert stand.worker.join() == EXIT_DEVICE_LOST


# --- abandoned ---------------------------------------------------------------------------


def test_what_is_abandoned_is_freed_and_what_was_told_is_told_again(changing):
    changing.files["1.fake"] = broken()
    changing.staged(changing.load(changing.model(1)))
    changing.engine("1.fake")
    changing.updates()
    order = changing.stage(changing.model(1, 2))
    changing.say(m.AbandonModel(order))
    changing.freed(order)
    assert changing.updates() == [
        ("m", 1, "LOADING"), ("m", 2, "LOADING"), ("m", 1, "UNAVAILABLE"), ("m", 2, "gone"),
    ]
    changing.check_nothing_is_left()


def test_abandoned_beside_one_that_serves_nobody_hears_of_it(changing):
    changing.serve(changing.model(1))
    changing.updates()
    order = changing.stage(changing.model(1, 2))
    changing.say(m.AbandonModel(order))
    changing.freed(order)
    assert changing.updates() == []
    assert [engine.closed for engine in changing.engines["1.fake"]] == [False, True]


def test_abandoned_while_it_loads(changing):
    gate = Gate()
    changing.engine("1.fake", 1, gate)
    gate.close()
    order = changing.load(changing.model(1, 2))
    gate.wait_for_a_run()
    changing.say(m.AbandonModel(order))
    changing.worker.statistics()
    gate.open()
    assert "not wanted any more" in changing.staged(order).error
    changing.freed(order)
    assert "2.fake" not in changing.engines  # it was not even begun
    changing.check_nothing_is_left()
    assert changing.worker._loader._abandoned == set()
