"""Models that go: what is on its way runs, then everything of them is given back."""

import logging

import numpy as np
import pytest

from tests.worker.change_stand import ROW, ChangeStand
from tests.worker.worker_stand import FrontEndSide, Gate
from trtserve.errors import ModelLoadError
from trtserve.ipc import message as m
from trtserve.model.spec import ANY
from trtserve.testing.clock import FakeClock
from trtserve.testing.device import FakeDevice
from trtserve.worker.pins import OFTEN

# --- unloading ---------------------------------------------------------------------------


def queued(stand: ChangeStand) -> set[tuple[str, ...]]:
    return {
        sample.labels for sample in stand.worker.statistics().gauges
        if sample.name == "queued_requests"
    }


def test_unloading_drains_and_frees(changing):
    gate = Gate()
    changing.engine("1.fake", 10, gate)
    changing.serve(changing.model(1, 2))
    changing.serve(changing.model(1), "other")
    front_end = changing.worker.connect()
    variant = changing.ready(front_end)
    gate.close()
    ident = front_end.submit(ROW, variant)
    gate.wait_for_a_run()
    assert queued(changing) == {("m", "1"), ("m", "2"), ("other", "1")}
    changing.updates()
    order = changing.unload()
    assert len(changing.retire(front_end)) == 2
    assert queued(changing) == {("other", "1")}
    assert changing.updates() == [("m", 1, "gone"), ("m", 2, "gone")]
    gate.open()
    _, output = front_end.answer(ident)
    np.testing.assert_array_equal(output, ROW * 10)
    changing.freed(order)
    assert [engine.closed for engine in changing.engines["1.fake"]] == [True, False]
    assert changing.worker._loop._batcher.statistics().queued == {("other", 1): 0}


def test_unloading_waits_for_what_loads_before_it(changing):
    gate = Gate()
    changing.engine("1.fake", 1, gate)
    gate.close()
    order = changing.load(changing.model(1))
    gate.wait_for_a_run()
    unload = changing.unload()
    changing.say(m.CommitModel(order))
    gate.open()
    changing.freed(order)
    changing.freed(unload)
    assert changing.updates() == [("m", 1, "LOADING"), ("m", 1, "READY"), ("m", 1, "gone")]
    changing.check_nothing_is_left()


@pytest.mark.parametrize("message", [m.CommitModel(99), m.AbandonModel(99)])
def test_unknown_orders_are_answered(changing, message):
    changing.say(message)
    changing.freed(99)


def test_an_unknown_model_is_unloaded_at_once(changing):
    changing.freed(changing.unload("nobody"))
    assert changing.updates() == []


def test_an_order_that_is_said_twice_is_answered_once(changing):
    changing.serve(changing.model(1))
    front_end = changing.worker.connect()
    order = changing.stage(changing.model(1))
    for _ in range(2):
        changing.say(m.CommitModel(order))
    changing.worker.statistics()
    assert not [each for each in changing.supervisor.waiting() if isinstance(each, m.Freed)]
    changing.retire(front_end)
    changing.freed(order)


def run_often(stand: ChangeStand, front_end: FrontEndSide, gate: Gate) -> int:
    """So many requests of one bucket that it gets contexts of its own; the last one, whose id is
    returned, waits at the gate."""
    variant = stand.ready(front_end)
    for _ in range(OFTEN - 1):
        front_end.answer(front_end.submit(ROW, variant))
    gate.close()
    last = front_end.submit(ROW, variant)
    gate.wait_for_a_run()
    return last


def test_contexts_that_are_being_made_for_a_leaving_model_are_closed_too(make_changing):
    stand = make_changing()
    gate = Gate()
    stand.engine("1.fake", 1, gate, row=(ANY,), pins=True)
    stand.serve(stand.model(1))
    front_end = stand.worker.connect()
    last = run_often(stand, front_end, gate)
    order = stand.unload()
    stand.retire(front_end)
    gate.let_one_go()  # from now on contexts are made
    front_end.answer(last)
    (engine,) = stand.engines["1.fake"]
    gate.open()
    stand.freed(order)
    assert engine.closed
    assert all(context.closed for context in engine.contexts)
    assert stand.device.allocated_bytes == 0


def test_contexts_asked_for_just_before_are_closed_too(make_changing):
    stand = make_changing()
    gate = Gate()
    stand.engine("1.fake", 1, gate, row=(ANY,), pins=True)
    stand.serve(stand.model(1))
    order = stand.stage(stand.model(1))
    front_end = stand.worker.connect()
    last = run_often(stand, front_end, gate)
    gate.let_one_go()
    front_end.answer(last)
    gate.wait_for_a_run()  # of the first new context
    stand.say(m.CommitModel(order))
    stand.retire(front_end)
    stand.worker.statistics()
    old, new = stand.engines["1.fake"]
    assert not old.closed
    gate.open()
    stand.freed(order)
    assert old.closed
    assert not new.closed
    assert stand.worker._loop._models._pins.pinned == 0


# --- the end -----------------------------------------------------------------------------


@pytest.mark.parametrize("then", ["staged", "draining"])
def test_stopping_waits_for_no_change(changing, then):
    changing.serve(changing.model(1))
    front_end = changing.worker.connect()
    order = changing.stage(changing.model(1))
    if then == "draining":
        changing.say(m.CommitModel(order))
        front_end.expect(m.Retire)
    changing.say(m.Stop(1.0))
    assert changing.worker.join() == 0


# --- memory ------------------------------------------------------------------------------


def test_memory_is_told_before_and_after(make_changing, caplog):
    caplog.set_level(logging.INFO)
    device = FakeDevice(FakeClock())
    device.total_bytes = 1 << 20
    stand = make_changing(device)
    assert stand.serve(stand.model(1)).before_bytes == 0
    one = device.allocated_bytes
    freed = stand.serve(stand.model(2))
    assert (freed.before_bytes, freed.after_bytes) == (one, one)
    freed = stand.freed(stand.unload())
    assert (freed.before_bytes, freed.after_bytes) == (one, 0)
    assert "model m: version 2 in, version 1 out; memory 0.0 -> 0.0 MiB" in caplog.text
    assert "model m: nothing in, version 2 out" in caplog.text


def test_without_a_count_of_the_device_s_it_is_the_process_s(make_changing):
    stand = make_changing(unified=True)
    told = stand.serve(stand.model(1))
    assert told.before_bytes > 1 << 20
    assert told.after_bytes > 1 << 20


def sizes(stand: ChangeStand) -> dict[str, int]:
    """How much everything holds that grows with models."""
    loop, loader = stand.worker._loop, stand.worker._loader
    residents, changes, batcher = loop._residents, loop._changes, loop._batcher
    statistics = stand.worker.statistics()
    return {
        "allocated": stand.device.allocated_bytes,
        "staging": stand.device.staging_bytes,
        "variants": len(residents.variants),
        "versions": len(residents.versions),
        "sets": len(residents.retired) + len(residents.unproven) + len(residents.unpadded),
        "told": len(residents._told),
        "counts": len(residents._counts),
        "pins": loop._models._pins.pinned + len(loop._models._pins._counts),
        "changes": len(changes._staging) + len(changes._draining) + len(changes._freeing),
        "abandoned": len(loader._abandoned),
        "batcher": len(batcher._variants) + len(batcher._versions) + len(batcher._shares),
        "tables": len(batcher._tables) + len(batcher._tables._sizes),
        "queues": len(batcher._queues),
        "metrics": len(statistics.counters) + len(statistics.gauges)
        + len(statistics.histograms),
        "retiring": sum(len(link.retiring) for link in loop._front_ends),
    }


def test_after_60_rounds_everything_is_as_at_the_start(changing):
    one, other = changing.model(1, 2), changing.model(2)
    changing.files["3.fake"] = ModelLoadError("cut off")
    bad = changing.model(2, 3)
    front_end = changing.worker.connect()
    before: dict[str, int] = {}
    for number in range(61):
        changing.engines.clear()
        for folder in (one, other):
            order = changing.stage(folder)
            changing.say(m.CommitModel(order))
            if folder is other:
                changing.retire(front_end)
            changing.freed(order)
            front_end.answer(front_end.submit(ROW, changing.ready(front_end, 2)))
        changing.staged(changing.load(bad))
        abandoned = changing.stage(one)
        changing.say(m.AbandonModel(abandoned))
        changing.freed(abandoned)
        order = changing.unload()
        changing.retire(front_end)
        changing.freed(order)
        changing.check_nothing_is_left()
        changing.updates()
        front_end.waiting().clear()
        if number in (0, 60):
            # Counts of a version stay: they are there after the first round.
            before = before or sizes(changing)
            assert sizes(changing) == before
