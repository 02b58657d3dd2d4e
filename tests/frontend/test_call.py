"""What is known about a request's call, read only when it is asked for."""

from tests.frontend.contexts import Context
from tests.frontend.test_trace_context import SPAN, TRACE
from trtserve.frontend.call import MAX_ID, NO_CALL, Call


def test_nothing_is_read_before_it_is_asked_for_and_nothing_twice():
    context = Context(("traceparent", f"00-{TRACE}-{SPAN}-01"), ("tracestate", "a=b"))
    call = Call(context, "service/Method")
    assert call.request_id(b"own") == "own"
    assert context.reads == 0
    assert call.parent is not None
    assert call.parent.state == "a=b"
    assert call.parent is call.parent
    assert call.metadata["tracestate"] == "a=b"
    assert context.reads == 1


def test_a_call_without_a_parent_is_asked_once_too():
    context = Context()
    call = Call(context, "service/Method")
    assert call.parent is None
    assert call.parent is None
    assert context.reads == 1


def test_the_first_id_that_there_is_counts():
    parent = ("traceparent", f"00-{TRACE}-{SPAN}-00")
    named = Call(Context(("x-request-id", "named"), parent), "m")
    assert named.request_id(b"own") == "own"
    assert named.request_id(b"") == "named"
    assert Call(Context(parent), "m").request_id(b"") == TRACE
    assert NO_CALL.request_id(b"") == ""


def test_ids_are_bounded_and_need_be_no_text():
    assert NO_CALL.request_id(b"\xff") == "\ufffd"
    assert NO_CALL.request_id("ä".encode() * 1000) == "ä" * MAX_ID
    long = Call(Context(("x-request-id", "x" * 1000)), "m")
    assert long.request_id(b"") == "x" * MAX_ID


def test_several_values_are_joined_and_bytes_passed_over():
    call = Call(Context(("tracestate", "a=1"), ("tracestate", "b=2"), ("x-bin", b"\x00")), "m")
    assert call.metadata == {"tracestate": "a=1,b=2"}
