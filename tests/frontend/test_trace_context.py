"""W3C Trace Context: the standard's own examples, and what it forbids."""

import pytest

from trtserve.frontend.trace_context import (
    MAX_MEMBERS,
    MAX_STATE,
    TraceParent,
    parse_parent,
    trace_hex,
)

TRACE = "0af7651916cd43dd8448eb211c80319c"
SPAN = "b7ad6b7169203331"


@pytest.mark.parametrize(("flags", "sampled"), [
    ("01", True), ("00", False), ("03", True), ("02", False), ("ff", True),
])
def test_a_parent_is_read_with_its_flag(flags, sampled):
    assert parse_parent(f"00-{TRACE}-{SPAN}-{flags}", "a=b,c=d") == TraceParent(
        int(TRACE, 16), int(SPAN, 16), sampled, "a=b,c=d"
    )


def test_later_versions_may_say_more():
    assert parse_parent(f"cc-{TRACE}-{SPAN}-01-what-comes") is not None
    assert parse_parent(f"cc-{TRACE}-{SPAN}-01") is not None


@pytest.mark.parametrize("text", [
    "", "00", f"ff-{TRACE}-{SPAN}-01", f"00-{TRACE}-{SPAN}-01-more", f"cc-{TRACE}-{SPAN}-01more",
    f"00-{'0' * 32}-{SPAN}-01", f"00-{TRACE}-{'0' * 16}-01", f"00-{TRACE.upper()}-{SPAN}-01",
    f"00-{TRACE}-{SPAN}", f"00-{TRACE}-{SPAN}-1", f"00-{TRACE[1:]}-{SPAN}-01",
    f"00-{TRACE}-{SPAN}-01,00-{TRACE}-{SPAN}-01", f"00-{chr(0x660) * 32}-{SPAN}-01",
])
def test_what_is_no_parent_is_passed_over(text):
    assert parse_parent(text) is None


def state(text):
    found = parse_parent(f"00-{TRACE}-{SPAN}-01", text)
    assert found is not None
    return found.state


def test_a_state_is_passed_on_with_its_entries_in_order():
    assert state("b=2 3, a=1 ,,4x@v*/-_=!~") == "b=2 3,a=1,4x@v*/-_=!~"


@pytest.mark.parametrize("text", [
    "a=" + "b" * MAX_STATE, "a", "a=", "=b", "a=b=c", "A=b", "a=\n", "a=b,a=c", "a=1\x1b",
    ",".join(f"k{number}=v" for number in range(MAX_MEMBERS + 1)), "a=1,broken",
])
def test_a_state_that_the_standard_forbids_is_dropped(text):
    assert state(text) == ""


def test_ids_are_written_whole():
    assert trace_hex(1) == "0" * 31 + "1"
