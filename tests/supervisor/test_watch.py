"""The watch on a real repository. Looks come from events: the next one by itself is far off."""

import shutil
import threading

import pytest

from trtserve.supervisor.settling import Wish
from trtserve.supervisor.watch import Watch

PATIENCE_S = 30
FAR_OFF_S = 1e6


class Repository:
    """A folder of models, a watch on it, and what the watch wishes for."""

    def __init__(self, root):
        self.root = root
        self._woken = threading.Event()
        self.watch = Watch(str(root), FAR_OFF_S, 0.0, self._woken.set)

    def put(self, model, content=b"1"):
        """Write a model's file."""
        folder = self.root / model / "1"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "a.onnx").write_bytes(content)

    def until(self, models):
        """Wait until these were wished for in the end, others possibly too: nothing settles here.
        True means a load, False an unload."""
        seen: dict[str, bool] = {}
        while not models.items() <= seen.items():
            assert self._woken.wait(PATIENCE_S), seen
            self._woken.clear()
            seen |= {wish.model: wish.fingerprint is not None for wish in self.watch.take()}


@pytest.fixture
def repository(tmp_path):
    repository = Repository(tmp_path)
    repository.put("old")
    with repository.watch:
        folders, changing = repository.watch.begin()
        assert folders == {"old": str(tmp_path / "old")}
        assert changing == []
        repository.watch.start()
        yield repository


def test_events_tell_of_models_that_come_change_and_go(repository):
    repository.put("new")
    repository.until({"new": True})
    repository.put("old", b"22")
    repository.until({"old": True})
    repository.put("new", b"333")
    repository.until({"new": True})
    shutil.rmtree(repository.root / "old")
    repository.until({"old": False})


@pytest.fixture
def unwatched(tmp_path):
    """A repository at which nobody looks by himself."""
    repository = Repository(tmp_path / "models")
    repository.put("old")
    with repository.watch as watch:
        watch.begin()
        yield repository


def wishes(repository):
    """What one look gives."""
    repository.watch.turn(0)
    return repository.watch.take()


def test_what_changed_meanwhile_is_not_the_same(unwatched):
    watch, file = unwatched.watch, unwatched.root / "new/1/a.onnx"
    unwatched.put("new")
    (wish,) = wishes(unwatched)
    assert watch.same(wish)
    with file.open("r+b"):
        assert not watch.same(wish)
    assert watch.same(wish)
    file.write_bytes(b"4444")
    assert not watch.same(wish)
    assert not watch.same(Wish("nowhere", wish.fingerprint))


def test_what_could_not_be_taken_is_wished_again(unwatched):
    assert wishes(unwatched) == []
    unwatched.watch.again("old")
    (wish,) = wishes(unwatched)
    assert (wish.model, unwatched.watch.same(wish)) == ("old", True)
    assert wishes(unwatched) == []


def test_a_repository_that_is_away_for_a_moment_changes_nothing(unwatched):
    away = unwatched.root.with_name("away")
    unwatched.root.rename(away)
    assert wishes(unwatched) == []
    away.rename(unwatched.root)
    assert wishes(unwatched) == []
    unwatched.put("new")
    assert [wish.model for wish in wishes(unwatched)] == ["new"]
