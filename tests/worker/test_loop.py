"""The worker's loop over real channels: requests in, answers out, deaths of all kinds."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from tests.worker.worker_stand import FrontEndSide, Gate, WorkerStand, model_folder
from trtserve.errors import DeviceError, ExecutionFailed, ModelLoadError
from trtserve.ipc import message as m
from trtserve.ipc.channel import Channel
from trtserve.model.spec import ModelState
from trtserve.testing.engine import FakeEngine, FakeScript, doubling, fake_variant
from trtserve.worker.loop import EXIT_DEVICE_LOST

Starter = Callable[..., WorkerStand]


class Model:
    """A model that doubles, held up by a gate, whose next runs can be made to fail."""

    def __init__(self, **variant: Any) -> None:
        self.gate = Gate(doubling)
        self.failures: dict[int, Exception] = {}
        script = FakeScript(self.gate.compute, failures=self.failures)
        self.engine = FakeEngine(fake_variant(**variant), script=script)

    def fail_next(self, error: Exception, nth: int = 1) -> None:
        """Let the nth run from now fail."""
        self.failures[self.engine.runs + nth] = error


@pytest.fixture
def model() -> Model:
    return Model()


@pytest.fixture
def start(model: Model) -> Iterator[Starter]:
    """Starts a worker with the model `m`, and others; stops it after the test."""
    stands: list[WorkerStand] = []

    def start_worker(
        others: dict[str, FakeEngine | ModelLoadError] | None = None, **options: Any
    ) -> WorkerStand:
        stands.append(WorkerStand({"m.fake": model.engine, **(others or {})}, **options))
        return stands[-1].start()

    yield start_worker
    model.gate.open()
    for stand in stands:
        stand.stop()


def rows(count: int, value: float = 1.0) -> np.ndarray[Any, Any]:
    return np.full((count, 4), value, np.float32)


def check_doubled(front_end: FrontEndSide, ident: int, array: np.ndarray[Any, Any]) -> m.Done:
    done, output = front_end.answer(ident)
    assert np.array_equal(output, array * 2)
    return done


# --- serving -----------------------------------------------------------------------------


@pytest.mark.parametrize("inline", [False, True])
def test_a_request_is_run_and_its_outputs_are_lent_until_released(start, inline):
    worker = start(inline=inline)
    front_end = worker.connect()
    array = rows(3)
    done = check_doubled(front_end, front_end.submit(array), array)
    assert (done.rows, done.timing.requests, done.timing.rows) == ((3,), 1, 3)
    assert worker.gauges()["arena_used_bytes"] > 0
    front_end.say(m.Release((done.lease,)))
    worker.until(lambda gauges: gauges["arena_used_bytes"] == 0)


def test_short_batches_run_in_the_loop_s_own_thread(start, model):
    model.engine.script.service_ns = lambda rows: 1_000
    front_end = start(inline=True).connect()
    done = check_doubled(front_end, front_end.submit(rows(1)), rows(1))
    assert done.timing.lane == 1  # the one after the lanes'


def test_the_supervisor_hears_of_models_and_of_the_end_of_loading(start):
    broken = ModelLoadError("the file is cut off", where="/b.fake", cure="Copy it again")
    supervisor = start({"b.fake": broken}).supervisor
    states = [supervisor.expect(m.ModelUpdate) for _ in range(4)]
    assert [(update.model, update.state) for update in states] == [
        ("m", ModelState.LOADING), ("b", ModelState.LOADING),
        ("m", ModelState.READY), ("b", ModelState.UNAVAILABLE),
    ]
    assert states[2].variant_ids == (1,)
    assert states[2].costs
    assert states[3].reason == "the file is cut off. Copy it again"  # what clients may know
    assert states[3].full_reason == "/b.fake: the file is cut off. Copy it again"
    assert supervisor.expect(m.Settled).models == 2
    assert supervisor.expect(m.Heartbeat).token == 0  # unasked


def test_heartbeats_carry_what_the_lanes_did(start):
    worker = start(lanes=2)
    front_end = worker.connect()
    check_doubled(front_end, front_end.submit(rows(2)), rows(2))
    gauges = worker.gauges()
    assert (gauges["lanes"], gauges["lanes_busy"], gauges["queued_requests"]) == (2, 0, 0)
    worker.supervisor.say(m.Poll(5))
    beat = worker.supervisor.expect(m.Heartbeat, lambda message: message.token == 5)
    counters = {(each.name, *each.labels): each.value for each in beat.statistics.counters}
    assert counters["version_sums", "m", "1", "executed"] == 1
    assert counters["version_sums", "m", "1", "inferences"] == 2
    assert ("lane_busy_seconds", "fake") in counters


def test_requests_of_two_front_ends_share_a_batch_and_each_reads_its_part(start, model):
    worker = start()
    one, other = worker.connect("front end 1"), worker.connect("front end 2")
    model.gate.close()
    first = one.submit(rows(1))
    model.gate.wait_for_a_run()
    mine = [one.submit(rows(1, 2)), one.submit(rows(2, 4))]
    theirs = other.submit(rows(1, 3))
    worker.until(lambda gauges: gauges["queued_requests"] == 3)
    model.gate.open()
    alone = check_doubled(one, first, rows(1))
    one.say(m.Release((alone.lease,)))
    done = check_doubled(one, mine[0], rows(1, 2))
    assert check_doubled(one, mine[1], rows(2, 4)) == done
    others = check_doubled(other, theirs, rows(1, 3))
    assert done.timing.requests == 3
    assert done.timing.rows == 4
    assert done.lease == others.lease
    one.say(m.Release((done.lease,)))
    assert worker.gauges()["arena_used_bytes"] > 0  # the other still reads
    other.say(m.Release((done.lease,)))
    worker.until(lambda gauges: gauges["arena_used_bytes"] == 0)


def test_a_new_front_end_is_told_everything(start):
    broken = ModelLoadError("no")
    worker = start({"b.fake": broken})
    worker.connect("front end 1")
    late = worker.connect("front end 2", greet=False)
    late.expect(m.Attach)
    found = {late.expect(m.ModelUpdate).model: None for _ in range(2)}
    assert set(found) == {"m", "b"}
    assert late.expect(m.Settled).models == 2


def test_a_front_end_that_does_not_read_gets_everything_in_the_end(start):
    worker = start(lanes=2)
    front_end = worker.connect()
    idents = [front_end.submit(rows(1, number)) for number in range(1500)]
    for number, ident in enumerate(idents):
        done = check_doubled(front_end, ident, rows(1, number))
        if done.ids[-1] == ident:
            front_end.say(m.Release((done.lease,)))


# --- refusals and failures ---------------------------------------------------------------


def test_a_variant_that_is_not_here_is_unavailable(start):
    front_end = start().connect()
    failed = front_end.failure(front_end.submit(rows(1), variant=99))
    assert failed.word == "unavailable"


def test_a_request_that_is_too_late_never_reaches_the_device(start, model):
    worker = start()
    front_end = worker.connect()
    runs = model.engine.runs
    failed = front_end.failure(front_end.submit(rows(1), deadline_ns=1))
    assert failed.word == "deadline"
    assert model.engine.runs == runs


def test_a_failed_batch_answers_its_own_requests_only(start, model):
    front_end = start().connect()
    model.fail_next(ExecutionFailed("an index is out of range"))
    failed = front_end.failure(front_end.submit(rows(1)))
    assert (failed.word, failed.message) == ("execution", "an index is out of range")
    check_doubled(front_end, front_end.submit(rows(2)), rows(2))


def test_a_device_error_that_is_not_sticky_fails_its_batch_only(start, model):
    front_end = start().connect()
    model.fail_next(DeviceError("secret details", name="cudaErrorMemoryAllocation"))
    failed = front_end.failure(front_end.submit(rows(1)))
    assert failed.word == "execution"
    assert "secret" not in failed.message
    check_doubled(front_end, front_end.submit(rows(1)), rows(1))


def test_one_bad_request_does_not_fail_its_batch_mates(start, model):
    worker = start()
    front_end = worker.connect()
    model.gate.close()
    first = front_end.submit(rows(1))
    model.gate.wait_for_a_run()
    idents = [front_end.submit(rows(1, number)) for number in (5, 6, 7)]
    worker.until(lambda gauges: gauges["queued_requests"] == 3)
    model.fail_next(ExecutionFailed("bad value"), nth=1)  # all three
    model.fail_next(ExecutionFailed("bad value"), nth=3)  # the second of them, alone
    model.gate.open()
    check_doubled(front_end, first, rows(1))
    check_doubled(front_end, idents[0], rows(1, 5))
    assert front_end.failure(idents[1]).message == "bad value"
    check_doubled(front_end, idents[2], rows(1, 7))


def test_a_lost_device_ends_the_worker_with_its_requests_unanswered(start, model):
    worker = start()
    front_end = worker.connect()
    model.fail_next(DeviceError("illegal address", name="cudaErrorIllegalAddress", sticky=True))
    front_end.submit(rows(1))
    assert worker.join() == EXIT_DEVICE_LOST
    assert not any(isinstance(each, m.Failed | m.Done) for each in front_end.waiting())


# --- cancelling --------------------------------------------------------------------------


def test_a_cancelled_request_is_answered_without_running(start, model):
    worker = start()
    front_end = worker.connect()
    model.gate.close()
    running = front_end.submit(rows(1))
    model.gate.wait_for_a_run()
    waiting = front_end.submit(rows(1))
    runs = model.engine.runs
    front_end.say(m.Cancel((waiting, running, 999)))
    assert front_end.failure(waiting).word == "cancelled"
    model.gate.open()
    check_doubled(front_end, running, rows(1))  # what runs, runs on
    assert worker.gauges()["queued_requests"] == 0
    assert model.engine.runs == runs


# --- front ends die ----------------------------------------------------------------------


def test_a_dead_front_end_keeps_its_arena_mapped_while_a_batch_reads_it(start, model):
    worker = start()
    survivor = worker.connect("front end 1")
    dying = worker.connect("front end 2")
    done = check_doubled(survivor, survivor.submit(rows(1)), rows(1))
    survivor.say(m.Release((done.lease,)))
    model.gate.close()
    dying.submit(rows(1))
    model.gate.wait_for_a_run()
    dying.submit(rows(1))
    dying.die()
    worker.until(lambda gauges: gauges["queued_requests"] == 0)  # its death was noticed
    assert len(worker.device.attached) == 2
    assert worker.gauges()["lanes_busy"] == 1
    model.gate.open()
    worker.until(lambda gauges: gauges["lanes_busy"] == 0)
    assert len(worker.device.attached) == 1
    assert worker.gauges()["arena_used_bytes"] == 0
    check_doubled(survivor, survivor.submit(rows(1)), rows(1))


def test_what_a_dead_front_end_had_not_read_is_free_again(start):
    worker = start()
    dying = worker.connect()
    check_doubled(dying, dying.submit(rows(4)), rows(4))
    assert worker.gauges()["arena_used_bytes"] > 0
    dying.die()
    worker.until(lambda gauges: gauges["arena_used_bytes"] == 0)
    assert not worker.device.attached


def test_the_survivor_of_a_shared_batch_gets_its_answer(start, model):
    worker = start()
    survivor, dying = worker.connect("front end 2"), worker.connect("front end 1")
    model.gate.close()
    survivor.submit(rows(1))
    model.gate.wait_for_a_run()
    dying.submit(rows(1, 8))
    shared = survivor.submit(rows(1, 9))
    worker.until(lambda gauges: gauges["queued_requests"] == 2)
    model.gate.let_one_go()
    model.gate.wait_for_a_run()
    dying.die()
    worker.supervisor.say(m.Reaped("front end 1"))
    worker.gauges()  # the order before it was obeyed
    model.gate.open()
    check_doubled(survivor, shared, rows(1, 9))


def test_a_death_told_twice_in_one_turn_is_one_death():
    model = FakeEngine()
    stand = WorkerStand({"m.fake": model})
    ours, theirs = Channel.pair()
    ours.close()
    # The loop finds the order and the end of file together, the order first.
    stand.supervisor.say(m.Connect("front end 1"), theirs.fileno())
    stand.supervisor.say(m.Reaped("front end 1"))
    theirs.close()
    stand.start()
    try:
        front_end = stand.connect("front end 1")
        front_end.answer(front_end.submit(rows(1)))
    finally:
        stand.stop()
    assert stand.status == 0


def test_the_next_front_end_of_that_name_takes_its_place(start):
    worker = start()
    first = worker.connect("front end 1")
    second = worker.connect("front end 1")
    first.wait_for_end()
    check_doubled(second, second.submit(rows(1)), rows(1))
    assert len(worker.device.attached) == 1


# --- the end -----------------------------------------------------------------------------


def test_stop_waits_for_what_runs_and_what_is_queued(start, model):
    worker = start()
    front_end = worker.connect()
    model.gate.close()
    idents = [front_end.submit(rows(1))]
    model.gate.wait_for_a_run()
    idents.append(front_end.submit(rows(1, 2)))
    worker.until(lambda gauges: gauges["queued_requests"] == 1)
    worker.supervisor.say(m.Stop(5.0))
    worker.until(lambda gauges: gauges["lanes_busy"] == 1)  # it still answers, and runs
    model.gate.open()
    assert worker.join() == 0
    check_doubled(front_end, idents[0], rows(1))
    check_doubled(front_end, idents[1], rows(1, 2))


def test_an_idle_worker_stops_at_once_and_orders_before_it_change_nothing(start):
    worker = start()
    worker.supervisor.say(m.Drain())
    worker.supervisor.say(m.Reaped("nobody"))
    worker.connect()
    worker.supervisor.say(m.Stop(5.0))
    assert worker.join() == 0


def test_several_variants_of_a_version_have_numbers_of_their_own(start):
    narrow, wide = FakeEngine(fake_variant("a")), FakeEngine(fake_variant("b", row=(6,)))
    folders = (model_folder("v", "a.fake", "b.fake"),)
    worker = start({"a.fake": narrow, "b.fake": wide}, folders=folders)
    front_end = worker.connect(greet=False)
    update = front_end.expect(m.ModelUpdate, lambda each: each.state == ModelState.READY)
    assert update.variant_ids == (1, 2)
    front_end.greet()
    array = np.ones((1, 6), np.float32)
    assert front_end.answer(front_end.submit(array, variant=2))[1].shape == (1, 6)
