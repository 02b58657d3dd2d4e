"""When a folder that changes is ready: by a clock that tests move."""

import pytest

from trtserve.clock import NS_PER_S
from trtserve.supervisor.fingerprint import Fingerprint
from trtserve.supervisor.settling import Settling, Wish
from trtserve.testing.clock import FakeClock

SETTLE_S = 2
SETTLE = SETTLE_S * NS_PER_S


def look(number, changed_ns=0):
    """One of several ways that a folder may look."""
    return Fingerprint((("a.onnx", 1, 2, number, 3),), changed_ns=changed_ns)


OLD, HALF, NEW = map(look, (1, 2, 3))


class Folders:
    """A repository that tests change, and a clock."""

    def __init__(self, **models):
        self.clock = FakeClock(100 * NS_PER_S)
        self.settling = Settling(SETTLE_S)
        self.models = models
        self.busy: set[str] = set()
        self.settling.begin(models, self.clock.now_ns(), self.busy.__contains__)

    def after(self, seconds):
        """What is wished for after so long."""
        now = self.clock.advance(int(seconds * NS_PER_S))
        return self.settling.look(self.models, now, self.busy.__contains__)


def test_what_stays_the_same_is_left_alone():
    folders = Folders(det=OLD)
    assert folders.after(0) == []
    assert folders.after(100) == []
    assert folders.settling.wake_ns(folders.clock.now_ns()) is None


def test_a_change_is_taken_once_it_has_settled():
    folders = Folders(det=OLD)
    folders.models["det"] = NEW
    assert folders.after(0) == []
    now = folders.clock.now_ns()
    assert folders.settling.wake_ns(now) == now + SETTLE
    assert folders.after(SETTLE_S - 0.1) == []
    assert folders.after(0.1) == [Wish("det", NEW)]
    assert folders.after(100) == []


def test_while_it_goes_on_changing_nothing_is_taken():
    folders = Folders(det=OLD)
    for number in range(10, 20):
        folders.models["det"] = look(number)
        assert folders.after(SETTLE_S - 0.1) == []
    assert folders.after(SETTLE_S) == [Wish("det", look(19))]


def test_a_file_that_is_being_written_is_waited_for_however_long():
    folders = Folders()
    folders.models["det"] = HALF
    folders.busy.add("det")
    folders.after(0)
    for _ in range(10):
        assert folders.after(SETTLE_S) == []
        now = folders.clock.now_ns()
        wake = folders.settling.wake_ns(now)
        assert wake is not None
        assert now < wake <= now + SETTLE
    folders.busy.clear()
    assert folders.after(0.1) == [Wish("det", HALF)]


def test_back_to_what_it_was_is_no_change():
    folders = Folders(det=OLD)
    folders.models["det"] = HALF
    folders.after(0)
    folders.models["det"] = OLD
    assert folders.after(1) == []
    assert folders.after(100) == []


def test_a_folder_that_is_gone_is_unloaded_unless_it_comes_back():
    folders = Folders(det=OLD, rec=OLD)
    del folders.models["det"], folders.models["rec"]
    assert folders.after(0) == []
    folders.models["rec"] = OLD  # as if it had been moved away and back
    assert folders.after(SETTLE_S) == [Wish("det", None)]
    assert folders.after(100) == []


def test_a_folder_that_was_never_taken_may_go_unnoticed():
    folders = Folders()
    folders.models["det"] = HALF
    folders.after(1)
    del folders.models["det"]
    assert folders.after(100) == []
    assert folders.settling.wake_ns(folders.clock.now_ns()) is None


def test_what_failed_is_wished_again_when_it_changes_only():
    folders = Folders()
    folders.models["det"] = HALF
    folders.after(0)
    assert folders.after(SETTLE_S) == [Wish("det", HALF)]
    assert folders.after(100) == []
    folders.models["det"] = NEW
    folders.after(0)
    assert folders.after(SETTLE_S) == [Wish("det", NEW)]


def test_what_changed_under_its_load_is_wished_once_more():
    folders = Folders(det=OLD)
    folders.settling.forget("det")
    folders.settling.forget("unknown")
    assert folders.after(0) == []
    assert folders.after(SETTLE_S) == [Wish("det", OLD)]
    folders.settling.forget("det")
    del folders.models["det"]
    folders.after(0)
    assert folders.after(SETTLE_S) == [Wish("det", None)]


@pytest.mark.parametrize(
    ("age_s", "busy", "taken"), [(3, False, True), (1, False, False), (3, True, False),
                                 (-5, False, False)],
    ids=["old enough", "just changed", "being written", "from the future"],
)
def test_the_start_goes_by_the_files_own_times(age_s, busy, taken):
    now = 1_000 * NS_PER_S
    found = look(1, changed_ns=now - age_s * NS_PER_S)
    settling = Settling(SETTLE_S)
    names = settling.begin({"det": found}, now, lambda _: busy)
    assert names == (["det"] if taken else [])
    # What is not taken at the start follows once it has settled.
    settling.look({"det": found}, 0, lambda _: False)
    wishes = settling.look({"det": found}, SETTLE, lambda _: False)
    assert wishes == ([] if taken else [Wish("det", found)])


def test_what_goes_before_it_has_settled_after_the_start_is_told():
    folders = Folders()
    # As at the start of a daemon, which then waits for it.
    assert folders.settling.begin({"det": HALF}, 0, lambda _: False) == []
    folders.after(0)
    assert folders.after(SETTLE_S) == [Wish("det", None)]
    assert folders.after(100) == []


def test_a_file_that_is_being_written_does_not_make_it_turn_and_turn():
    settling = Settling(0.0)
    settling.look({"det": HALF}, 0, lambda _: True)
    assert settling.wake_ns(1000) == 1000 + NS_PER_S // 20
