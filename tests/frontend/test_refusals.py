"""Lines about failed requests: what they say, how many there are, what can not be in them."""

import json
import logging

import pytest

from tests.frontend.contexts import Context
from tests.frontend.stand import Stand, floats, request, version_spec
from trtserve import log
from trtserve.clock import NS_PER_MS, NS_PER_S
from trtserve.errors import (
    ExecutionFailed,
    InvalidRequest,
    Overloaded,
    Unavailable,
)
from trtserve.frontend.call import Call
from trtserve.frontend.refusals import MAX_MESSAGE, RATE, Refusals
from trtserve.testing.clock import FakeClock

BURST = int(RATE.burst)


@pytest.fixture
def clock():
    return FakeClock(100 * NS_PER_S)


@pytest.fixture
def refusals(clock, caplog):
    caplog.set_level(logging.INFO)
    return Refusals(clock.now_ns)


def lines(caplog):
    return [record.getMessage() for record in caplog.records]


def test_a_line_tells_who_what_and_how_long(refusals, caplog):
    call = Call(Context(), "inference.GRPCInferenceService/ModelInfer", "edge")
    refusals.note(
        InvalidRequest("x is too long"), call=call, model="m", version="3", request_id=b"r1",
        duration_ns=1_500_000,
    )
    (record,) = caplog.records
    assert record.getMessage() == (
        "ModelInfer for m version 3 refused (invalid): x is too long "
        "[request r1, caller edge, 1.5 ms]"
    )
    assert record.levelno == logging.INFO
    assert (record.model, record.version, record.outcome) == ("m", "3", "invalid")
    assert (record.request_id, record.caller, record.duration_ms) == ("r1", "edge", 1.5)
    assert record.code == "INVALID_ARGUMENT"


@pytest.mark.parametrize(("error", "level", "verb"), [
    (Overloaded("full"), logging.WARNING, "refused"),
    (Unavailable("away"), logging.WARNING, "refused"),
    (ExecutionFailed("broken"), logging.WARNING, "failed"),
    (InvalidRequest("wrong"), logging.INFO, "refused"),
])
def test_the_server_s_own_failures_are_warnings(refusals, caplog, error, level, verb):
    refusals.note(error)
    (record,) = caplog.records
    assert record.levelno == level
    assert f"{verb} ({error.word})" in record.getMessage()


def test_the_rate_is_bounded_for_each_word_and_the_rest_is_told(refusals, clock, caplog):
    for _ in range(BURST + 312):
        refusals.note(Overloaded("full"))
    refusals.note(InvalidRequest("another word has lines of its own"))
    assert len(caplog.records) == BURST + 1
    clock.advance(NS_PER_S)
    refusals.note(Overloaded("full"))
    assert lines(caplog)[-1].endswith("[0 ms, and 312 more like it]")
    assert caplog.records[-1].suppressed == 312
    clock.advance(NS_PER_S)
    refusals.note(Overloaded("full"))
    assert "more like it" not in lines(caplog)[-1]


def test_a_flood_that_ends_is_told_of_too(refusals, clock, caplog):
    for _ in range(BURST + 5):
        refusals.note(Overloaded("full"))
    refusals.flush()
    assert len(caplog.records) == BURST
    clock.advance(NS_PER_S)
    refusals.flush()
    refusals.flush()
    assert lines(caplog)[BURST:] == ["and 5 more requests like those before (overloaded)"]


@pytest.mark.parametrize("form", ["console", "json"])
def test_nothing_a_client_sends_can_make_a_line_of_its_own(form, clock, capsys):
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    try:
        log.configure("front end 1", "info", form)
        wicked = "x\n12:00:00 all is well\r\x1b[2J\u202e\u2028\x00"
        call = Call(Context(), "s/M", wicked)
        Refusals(clock.now_ns).note(
            InvalidRequest(f"no model '{wicked}'" + "y" * 2 * MAX_MESSAGE), call=call, model=wicked,
            version="1", request_id=wicked.encode() + b"z" * 10_000,
        )
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
    (line,) = capsys.readouterr().err.split("\n")[:-1]
    assert line.isprintable()
    assert len(line) < 3 * MAX_MESSAGE
    if form == "json":
        fields = json.loads(line)
        for name in ("message", "request_id", "caller"):
            assert fields[name].isprintable()
        assert fields["request_id"].startswith(r"x\n12:00:00 all is well\r\x1b[2J\u202e")
        assert fields["outcome"] == "invalid"


def test_every_way_to_fail_has_its_line(caplog):
    caplog.set_level(logging.INFO)
    stand = Stand(version_spec())
    worker = stand.start_worker()
    stand.start(b"\xff")
    stand.start(request(floats(1, 4), model="none", request_id="lost"))
    pending = stand.start(request(floats(1, 4), request_id="mine"))
    assert pending is not None
    stand.pump()
    stand.clock.advance(7 * NS_PER_MS)
    worker.die()
    stand.pump()
    stand.reap()
    stand.dispatcher.fail_all(lambda: Unavailable("the server is shutting down"))
    first, second, third = caplog.records
    assert (first.outcome, hasattr(first, "model")) == ("invalid", False)
    assert (second.outcome, second.request_id) == ("not_found", "lost")
    assert (third.outcome, third.model, third.version) == ("unavailable", "m", "1")
    assert (third.request_id, third.duration_ms) == ("mine", 7)
    stand.close()


def test_a_success_has_none(caplog):
    caplog.set_level(logging.DEBUG)
    stand = Stand(version_spec())
    worker = stand.start_worker()
    stand.start(request(floats(1, 4)))
    stand.pump()
    worker.done(*worker.submits())
    stand.pump()
    assert not caplog.records
    stand.close()
