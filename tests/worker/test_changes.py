"""Models that come while others serve: nothing waits and nothing is refused."""

import numpy as np

from tests.worker.change_stand import ROW
from tests.worker.worker_stand import Gate
from trtserve.ipc import message as m

# --- loading -----------------------------------------------------------------------------


def test_a_model_serves_only_once_it_is_switched_to(changing):
    front_end = changing.worker.connect()
    order = changing.load(changing.model(1, 2))
    assert changing.staged(order) == m.Staged(order, (1, 2))
    assert changing.updates() == [("m", 1, "LOADING"), ("m", 2, "LOADING")]
    changing.say(m.CommitModel(order))
    changing.freed(order)
    assert changing.updates() == [("m", 1, "READY"), ("m", 2, "READY")]
    for version in (1, 2):
        _, output = front_end.answer(front_end.submit(ROW, changing.ready(front_end, version)))
        np.testing.assert_array_equal(output, ROW * version)


def test_the_folder_need_not_be_called_as_the_model(changing):
    folder = changing.model(1, config='name: "other"')
    order = changing.load(folder, "m")
    assert "name is 'other' and the model's folder is 'm'" in changing.staged(order).error
    changing.serve(changing.model(1, config='name: "other"'), "other")
    assert changing.updates()[-1] == ("other", 1, "READY")


def test_a_model_that_lives_elsewhere_is_staged_as_nothing(changing):
    changing.serve(changing.model(1))
    changing.device.name = "cuda:1"
    changing.worker._loader._devices = ("cuda:0", "cuda:1")
    order = changing.load(changing.model(1, config="instance_group { kind: KIND_GPU gpus: [ 0 ] }"))
    assert changing.staged(order) == m.Staged(order)
    changing.updates()
    changing.say(m.CommitModel(order))  # now it lives elsewhere, and not here any more
    changing.freed(order)
    assert changing.updates() == [("m", 1, "gone")]
    changing.check_nothing_is_left()


# --- switching ---------------------------------------------------------------------------


def test_the_old_runs_what_is_on_its_way_while_the_new_serves(changing):
    gate = Gate()
    changing.engine("1.fake", 10, gate)
    changing.serve(changing.model(1))
    front_end = changing.worker.connect()
    old = changing.ready(front_end)
    changing.engine("1.fake", 20)
    order = changing.stage(changing.model(1))
    gate.close()
    running = front_end.submit(ROW, old)
    gate.wait_for_a_run()
    changing.say(m.CommitModel(order))
    new = changing.ready(front_end)
    assert new != old
    _, output = front_end.answer(front_end.submit(ROW, new))
    np.testing.assert_array_equal(output, ROW * 20)
    # The front end may have sent some more to the old one before it heard of the new one.
    late = front_end.submit(ROW * 2, old)
    assert changing.retire(front_end) == (old,)
    assert not changing.engines["1.fake"][0].closed
    gate.open()
    for ident, value in ((running, 10), (late, 20)):
        _, output = front_end.answer(ident)
        np.testing.assert_array_equal(output, ROW * value)
    changing.freed(order)
    assert [engine.closed for engine in changing.engines["1.fake"]] == [True, False]
    assert not [each for each in front_end.waiting() if isinstance(each, m.Failed)]


def test_the_old_is_kept_until_every_front_end_has_agreed(changing):
    changing.serve(changing.model(1))
    one, other = changing.worker.connect("front end 1"), changing.worker.connect("front end 2")
    old = changing.ready(other)
    order = changing.stage(changing.model(1))
    changing.say(m.CommitModel(order))
    changing.retire(one)
    changing.worker.statistics()
    assert not changing.engines["1.fake"][0].closed
    _, output = other.answer(other.submit(ROW, old))
    np.testing.assert_array_equal(output, ROW)
    changing.retire(other)
    changing.freed(order)
    assert changing.engines["1.fake"][0].closed
    late = other.submit(ROW, old)  # which no front end does
    assert other.failure(late).word == "unavailable"


def test_a_front_end_that_dies_has_agreed(changing):
    changing.serve(changing.model(1))
    one, other = changing.worker.connect("front end 1"), changing.worker.connect("front end 2")
    order = changing.stage(changing.model(1))
    changing.say(m.CommitModel(order))
    changing.retire(one)
    other.expect(m.Retire)
    other.die()
    changing.freed(order)


def test_a_front_end_that_comes_later_hears_of_the_new_only(changing):
    changing.serve(changing.model(1, 2))
    first = changing.worker.connect("front end 1")
    order = changing.stage(changing.model(2))
    changing.say(m.CommitModel(order))
    first.expect(m.Retire)
    late = changing.worker.connect("front end 2")
    told = [each for each in late.waiting() if isinstance(each, m.ModelUpdate)]
    assert [(each.version, each.variant_ids) for each in told] == [(2, (3,))]
    first.die()
    changing.freed(order)  # the late one was not asked
    assert not [each for each in late.waiting() if isinstance(each, m.Retire)]


def test_versions_that_the_new_has_not_are_gone_and_never_is_there_none(changing):
    changing.serve(changing.model(1, 2))
    changing.updates()
    changing.serve(changing.model(2, 3))
    assert changing.updates() == [("m", 2, "READY"), ("m", 3, "READY"), ("m", 1, "gone")]


def test_a_change_while_the_one_before_still_drains(changing):
    gate = Gate()
    changing.engine("1.fake", 10, gate)
    changing.serve(changing.model(1))
    front_end = changing.worker.connect()
    orders = []
    for factor in (20, 30):
        changing.engine("1.fake", factor)
        orders.append(changing.stage(changing.model(1)))
    gate.close()
    running = front_end.submit(ROW, changing.ready(front_end))
    gate.wait_for_a_run()
    for order in orders:
        changing.say(m.CommitModel(order))
        changing.retire(front_end)
        newest = changing.ready(front_end)
    if changing.device.unified:  # else a lane has to be free for that
        changing.freed(orders[1])  # what served in between had nothing to do
        assert [engine.closed for engine in changing.engines["1.fake"]] == [False, True, False]
    _, output = front_end.answer(front_end.submit(ROW, newest))
    np.testing.assert_array_equal(output, ROW * 30)
    gate.open()
    front_end.answer(running)
    changing.freed(orders[0])
    if not changing.device.unified:
        changing.freed(orders[1])
    assert [engine.closed for engine in changing.engines["1.fake"]] == [True, True, False]


def test_two_orders_for_one_model_may_be_staged_at_once(changing):
    first, second = changing.load(changing.model(1)), changing.load(changing.model(1, 2))
    changing.staged(first)
    changing.staged(second)
    for order in (first, second):
        changing.say(m.CommitModel(order))
        changing.freed(order)
    assert [engine.closed for engine in changing.engines["1.fake"]] == [True, False]
    changing.freed(changing.unload())
    changing.check_nothing_is_left()


def test_a_commit_that_comes_early_is_not_lost(changing):
    gate = Gate()
    changing.engine("1.fake", 1, gate)
    gate.close()
    order = changing.load(changing.model(1))
    gate.wait_for_a_run()
    changing.say(m.CommitModel(order))
    gate.open()
    changing.staged(order)
    changing.freed(order)
    assert changing.updates()[-1] == ("m", 1, "READY")


def test_counts_go_on_and_are_not_doubled(changing):
    changing.serve(changing.model(1))
    front_end = changing.worker.connect()
    for _ in range(3):
        front_end.answer(front_end.submit(ROW, changing.ready(front_end)))
        order = changing.stage(changing.model(1))
        changing.say(m.CommitModel(order))
        changing.retire(front_end)
        changing.freed(order)
    sums = {
        sample.labels[2]: sample.value for sample in changing.worker.statistics().counters
        if sample.name == "version_sums"
    }
    assert (sums["executed"], sums["inferences"]) == (3, 3)


def test_the_new_configuration_s_limits_hold_for_all_that_waits(changing):
    gate = Gate()
    changing.engine("1.fake", 1, gate)
    changing.serve(changing.model(1))
    front_end = changing.worker.connect()
    old = changing.ready(front_end)
    changing.engine("1.fake", 1)
    order = changing.stage(changing.model(
        1, config="dynamic_batching { default_queue_policy { max_queue_size: 1 } }"
    ))
    gate.close()
    for _ in range(2):
        front_end.submit(np.ones((8, 4), np.float32), old)
        gate.wait_for_a_run()
    front_end.submit(ROW, old)  # waits
    changing.say(m.CommitModel(order))
    new = changing.ready(front_end)
    assert "1 requests waiting, which is its limit" in front_end.failure(
        front_end.submit(ROW, new)
    ).message
    changing.retire(front_end)
    gate.open()
    changing.freed(order)
