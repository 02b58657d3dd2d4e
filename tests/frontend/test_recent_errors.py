"""The last error of each kind."""

from trtserve.errors import InvalidRequest, Overloaded
from trtserve.frontend.recent_errors import MAX_KINDS, MAX_MESSAGE, RecentErrors
from trtserve.ipc.statistics import ErrorSample


def test_the_last_of_each_kind_is_kept():
    recent = RecentErrors()
    recent.note(InvalidRequest("first"), "m", "1", 1)
    recent.note(Overloaded("full"), "m", "1", 2)
    recent.note(InvalidRequest("second"), "m", "1", 3)
    recent.note(InvalidRequest("third"), "", "", 4)
    assert sorted(recent.samples(), key=lambda sample: sample.at_ns) == [
        ErrorSample("m", "1", "overloaded", "full", 2),
        ErrorSample("m", "1", "invalid", "second", 3),
        ErrorSample("", "", "invalid", "third", 4),
    ]


def test_what_is_kept_has_an_end():
    recent = RecentErrors()
    for number in range(MAX_KINDS + 3):
        recent.note(InvalidRequest("x"), "m", str(number), number)
    versions = [int(sample.version) for sample in recent.samples()]
    assert len(versions) == MAX_KINDS
    assert min(versions) == 3


def test_messages_are_short_and_on_one_line():
    recent = RecentErrors()
    recent.note(InvalidRequest("a\nb\x1b" + "x" * 1000), "m", "1", 1)
    (sample,) = recent.samples()
    assert len(sample.message) <= MAX_MESSAGE + 10
    assert sample.message.isprintable()
