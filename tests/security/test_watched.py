"""Files that are read again: when, and what becomes of those that can not be used."""

import pytest

from tests.security.authority import replace
from trtserve.errors import ConfigurationError
from trtserve.security.watched import RETRY_NS, SETTLE_NS, Watched, read_file
from trtserve.testing.clock import FakeClock


class Rig:
    """A file whose text is the value; a text that begins with ! can not be used."""

    def __init__(self, folder):
        self.clock = FakeClock()
        self.path = folder / "file"
        self.path.write_text("first")
        self.broken = None
        self.watched = self.watch()

    def watch(self, last=None):
        return Watched("file", (str(self.path),), self.read, last, self.clock.now_ns)

    def read(self):
        if self.broken is not None:
            raise self.broken
        text = read_file(str(self.path), "setting", 1000).decode()
        if text.startswith("!"):
            raise ConfigurationError(f"{text} is broken", where="setting")
        return text


@pytest.fixture
def rig(tmp_path):
    return Rig(tmp_path)


def test_a_file_that_takes_another_s_place_counts_at_once(rig):
    assert not rig.watched.look()
    replace(rig.path, b"second")
    assert rig.watched.look()
    assert rig.watched.value == "second"
    assert not rig.watched.look()


def test_a_file_that_is_being_written_has_to_settle(rig):
    rig.path.write_text("half")
    assert not rig.watched.look()
    rig.clock.advance(SETTLE_NS - 1)
    assert not rig.watched.look()
    rig.path.write_text("half and half")
    rig.clock.advance(SETTLE_NS)
    assert not rig.watched.look(), "it was written meanwhile"
    rig.clock.advance(SETTLE_NS)
    assert rig.watched.look()
    assert rig.watched.value == "half and half"


def test_what_can_not_be_used_is_told_once_and_tried_again(rig, caplog):
    replace(rig.path, b"!")
    for _ in range(3):
        assert not rig.watched.look()
    assert rig.watched.value == "first"
    for _ in range(3):
        rig.clock.advance(RETRY_NS)
        assert not rig.watched.look()
    assert rig.watched.failures == 1
    assert caplog.text.count("is not used") == 1


def test_what_was_broken_for_a_while_is_used_when_it_is_not(rig):
    """As a certificate that comes into force, or a process that has files again."""
    replace(rig.path, b"second")
    rig.broken = OSError(24, "Too many open files")
    assert not rig.watched.look()
    rig.broken = None
    assert not rig.watched.look(), "not at every look"
    rig.clock.advance(RETRY_NS)
    assert rig.watched.look()
    assert rig.watched.value == "second"


def test_each_new_problem_is_told(rig):
    for number in range(2):
        replace(rig.path, f"!{number}".encode())
        assert not rig.watched.look()
    assert rig.watched.failures == 2
    replace(rig.path, b"good")
    assert rig.watched.look()


def test_a_beginner_takes_what_was_kept(rig):
    replace(rig.path, b"!")
    with pytest.raises(ConfigurationError):
        rig.watch()
    found = rig.watch("kept")
    assert (found.value, found.failures) == ("kept", 1)
    replace(rig.path, b"mended")
    assert found.look()
    assert found.value == "mended"
