"""Which requests are traced, and what is written down of each."""

import pytest

from tests.frontend.contexts import Context
from tests.frontend.stand import RecordingReply, Stand, floats, request, version_spec
from tests.frontend.test_trace_context import SPAN, TRACE
from trtserve.clock import NS_PER_MS
from trtserve.errors import Unavailable
from trtserve.frontend.call import Call
from trtserve.frontend.spans import phases
from trtserve.frontend.trace_context import trace_hex
from trtserve.frontend.tracing import MAX_LINKS, Traced, Tracer
from trtserve.metrics import Recorder


def call(flags="01", *, method="service/Method"):
    """A call whose caller's span is, or is not, sampled; with no flags one without a span."""
    metadata = (("traceparent", f"00-{TRACE}-{SPAN}-{flags}"), ("tracestate", "a=b"))
    return Call(Context(*metadata) if flags else Context(), method)


def nowhere(_):
    """Where traces go that a test does not look at."""


class Scene:
    """A stand whose requests are all traced."""

    def __init__(self, hand_over=None):
        self.traced: list[Traced] = []
        self.tracer = Tracer(1.0, hand_over or self.traced.append)
        self.stand = Stand(version_spec(), tracer=self.tracer)
        self.worker = self.stand.start_worker()

    def ask(self, flags="01", **fields):
        self.stand.reply = RecordingReply(call(flags))
        return self.stand.start(request(floats(1, 4), **fields))

    def answer(self):
        self.stand.pump()
        self.worker.done(*self.worker.submits())
        self.stand.pump()


@pytest.fixture
def scene():
    scene = Scene()
    yield scene
    scene.stand.close()


def test_the_parent_decides_whatever_the_ratio_is():
    assert Tracer(1.0, nowhere).begin(call("00")) is None
    trace = Tracer(0.0, nowhere).begin(call("01"))
    assert trace is not None
    assert trace.trace_id == int(TRACE, 16)
    assert (trace.parent_id, trace.state) == (int(SPAN, 16), "a=b")
    assert trace.span_id not in (0, trace.parent_id)


def test_without_a_parent_the_ratio_does():
    def begin(ratio, low_half):
        bits = iter((5 << 64 | low_half, 7))
        return Tracer(ratio, nowhere, lambda _: next(bits)).begin(call(""))

    half = 1 << 63
    assert begin(0.5, half - 1) is not None
    assert begin(0.5, half) is None
    assert begin(1.0, (1 << 64) - 1) is not None
    assert begin(0.0, 0) is None
    trace = begin(1.0, 3)
    assert (trace.trace_id, trace.span_id, trace.parent_id) == (5 << 64 | 3, 7, 0)


def test_an_answered_request_is_written_down_with_its_times(scene):
    pending = scene.ask(request_id="r1")
    arrived = scene.stand.clock.now_ns()
    scene.stand.pump()
    submits = scene.worker.submits()
    scene.stand.clock.advance(3 * NS_PER_MS)
    scene.worker.done(*submits)
    scene.stand.pump()
    (traced,) = scene.traced
    assert traced.trace is pending.trace
    assert (traced.arrived_ns, traced.ended_ns) == (arrived, arrived + 3 * NS_PER_MS)
    assert (traced.request_id, traced.worker, traced.attempts) == ("r1", "w1", 0)
    assert traced.template.spec.model == "m"
    assert traced.error is None
    assert traced.mates == ()
    began = arrived + 5_000
    assert list(phases(traced)) == [
        ("admission", arrived, arrived),
        ("queue", arrived, began),
        ("stage", began, began + 1_000),
        ("h2d", began + 1_000, began + 3_000),
        ("compute", began + 3_000, began + 6_000),
        ("d2h", began + 6_000, began + 10_000),
        ("answer", began + 10_000, arrived + 3 * NS_PER_MS),
    ]


def test_batch_mates_know_one_another(scene):
    traces = [scene.ask(flags).trace for flags in ("01", "", "00", "01")]
    assert traces[2] is None
    scene.answer()
    spans = [(trace.trace_id, trace.span_id) for trace in traces if trace is not None]
    assert [traced.mates for traced in scene.traced] == [
        (spans[1], spans[2]), (spans[0], spans[2]), (spans[0], spans[1]),
    ]


def test_of_many_mates_the_nearest_are_named(scene):
    count = 2 * MAX_LINKS
    traces = [scene.ask().trace for _ in range(count)]
    scene.answer()
    spans = [(trace.trace_id, trace.span_id) for trace in traces]
    for position, traced in enumerate(scene.traced):
        assert len(traced.mates) == MAX_LINKS
        assert spans[position] not in traced.mates
        for near in {max(0, position - 1), min(count - 1, position + 1)} - {position}:
            assert spans[near] in traced.mates


def test_a_refused_request_is_written_down_with_its_error(scene):
    scene.ask(model_version="9")
    (traced,) = scene.traced
    assert traced.error.word == "not_found"
    assert traced.template is None
    assert [name for name, _, _ in phases(traced)] == ["admission"]


def test_a_request_that_fails_in_the_queue_tells_so(scene):
    scene.ask()
    scene.stand.pump()
    scene.worker.submits()
    scene.stand.clock.advance(NS_PER_MS)
    scene.stand.dispatcher.fail_all(lambda: Unavailable("going"))
    (traced,) = scene.traced
    assert (traced.error.word, traced.worker) == ("unavailable", "w1")
    assert traced.template is not None
    name, begin, end = list(phases(traced))[-1]
    assert (name, end - begin) == ("queue", NS_PER_MS)


def test_a_replayed_request_waits_from_its_second_submit(scene):
    pending = scene.ask()
    scene.stand.pump()
    scene.worker.die()
    scene.stand.pump()
    scene.stand.clock.advance(NS_PER_MS)
    scene.stand.reap()
    scene.worker = scene.stand.start_worker()
    scene.answer()
    (traced,) = scene.traced
    assert traced.attempts == 1
    assert pending.trace.sent_ns == scene.stand.clock.now_ns()


def test_a_traced_request_is_an_example_in_three_histograms(scene):
    scene.ask()
    scene.answer()
    recorder = Recorder()
    scene.stand.dispatcher.counts.write(recorder)
    found = {
        sample.name: sample for sample in recorder.statistics().histograms if sample.exemplars
    }
    assert set(found) == {
        "request_duration_seconds", "queue_duration_seconds", "compute_duration_seconds"
    }
    for sample in found.values():
        (exemplar,) = sample.exemplars
        assert exemplar.trace_id == TRACE == trace_hex(int(TRACE, 16))
    # The workers count these two: here is only the example.
    assert sum(found["queue_duration_seconds"].counts) == 0
    (compute,) = found["compute_duration_seconds"].exemplars
    assert compute.value == pytest.approx(3e-6)


def test_what_is_not_traced_leaves_nothing(scene):
    pending = scene.ask("00")
    scene.answer()
    assert pending.trace is None
    assert scene.traced == []
    recorder = Recorder()
    scene.stand.dispatcher.counts.write(recorder)
    assert not [s for s in recorder.statistics().histograms if s.exemplars]
