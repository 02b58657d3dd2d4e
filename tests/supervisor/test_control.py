"""Who is told what about models that come and go: a crew without processes, and a watch that
wishes as tests say."""

import selectors
from collections import deque
from types import SimpleNamespace
from typing import Any

import pytest

from trtserve.config import Settings
from trtserve.ipc.channel import Channel
from trtserve.ipc.message import (
    CommitModel,
    ControlReply,
    ControlRequest,
    Freed,
    LoadModel,
    Settled,
    Staged,
    UnloadModel,
)
from trtserve.supervisor.child import Child
from trtserve.supervisor.control import ModelControl
from trtserve.supervisor.crew import Crew
from trtserve.supervisor.desired import Desired
from trtserve.supervisor.fingerprint import Fingerprint
from trtserve.supervisor.role import Targets, roles
from trtserve.supervisor.scratch import Scratch
from trtserve.supervisor.settling import Wish

CPU, GPU, FRONT_END = "worker cpu", "worker cuda:0", "front end 1"


class Wishes:
    """A watch. `now` are the fingerprints of the folders as they are."""

    def __init__(self):
        self.now: dict[str, Fingerprint] = {}
        self.wished_again: list[str] = []
        self._wishes: deque[Wish] = deque()

    def wish(self, model, look=1):
        self.now[model] = Fingerprint((("a.onnx", 1, 2, look, 3),))
        self._wishes.append(Wish(model, self.now[model]))

    def take(self):
        taken = list(self._wishes)
        self._wishes.clear()
        return taken

    def same(self, wish):
        return self.now[wish.model] == wish.fingerprint

    def again(self, model):
        self.wished_again.append(model)


class Stand:
    """The control of a daemon of two workers and a front end, and the children's ends."""

    def __init__(self, selector, folder, scratch, mode):
        settings = Settings(repository=str(folder), model_control_mode=mode)
        self.crew = Crew(selector, roles(1, "cpu,cuda:0", Targets()), b"")
        self.watch = Wishes()
        self.control = ModelControl(settings, self.crew, scratch, Desired({}), self.watch)
        self._ends: dict[str, Channel] = {}
        self._pids = 0
        for name in (CPU, GPU, FRONT_END):
            self.start(name)

    def post(self, name):
        return next(post for post in self.crew.posts if post.role.name == name)

    def start(self, name):
        """A process plays a role; a worker settles at once."""
        self._pids += 1
        ours, self._ends[name] = Channel.pair()
        post = self.post(name)
        process: Any = SimpleNamespace(pid=self._pids)
        post.filled(Child(process, -1, ours, 0), 0)
        post.heard(Settled(0))
        self.control.started(post)
        self.turn()

    def die(self, name, *, hopeless=False):
        """It dies."""
        post = self.post(name)
        post.child.close()
        self._ends.pop(name).close()
        post.emptied()
        post.hopeless = hopeless
        self.control.died(post)
        self.turn()

    def say(self, name, message):
        """It says something."""
        self.control.heard(self.post(name), message)
        self.turn()

    def turn(self):
        self.control.turn(0)

    def told(self, name, *kinds):
        """What it was told since it was asked last."""
        found = []
        while messages := self._ends[name].receive():
            found += messages
        return [message for message in found if isinstance(message, kinds or object)]

    def replies(self):
        """The answers to the front end, after all rounds of polls."""
        while self.control.confirmations:
            confirmation = self.control.confirmations.popleft()
            while not self.control.confirmed(confirmation):
                pass
        return self.told(FRONT_END, ControlReply)

    def close(self):
        for name in list(self._ends):
            self._ends[name].close()
            self.post(name).child.close()


@pytest.fixture
def make(tmp_path):
    with selectors.DefaultSelector() as selector, Scratch(str(tmp_path / "scratch")) as scratch:
        stands = []

        def make(mode):
            for name in ("one", "two"):
                (tmp_path / "models" / name).mkdir(parents=True, exist_ok=True)
            stands.append(Stand(selector, tmp_path / "models", scratch, mode))
            return stands[-1]

        yield make
        for stand in stands:
            stand.close()


@pytest.fixture
def polling(make):
    return make("poll")


@pytest.fixture
def explicit(make):
    return make("explicit")


def orders(stand, name):
    """The loads that a worker was told: (order, model)."""
    return [(each.order, each.model) for each in stand.told(name, LoadModel)]


def test_a_model_that_did_not_end_its_worker_is_loaded_though_another_did(polling):
    """Both were on their way; the worker was at the first."""
    polling.watch.wish("one")
    polling.watch.wish("two")
    polling.turn()
    assert orders(polling, CPU) == orders(polling, GPU) == [(1, "one"), (2, "two")]
    for order in (1, 2):
        polling.say(CPU, Staged(order, (1,)))
    polling.die(GPU)
    assert polling.watch.wished_again == ["two"]


def test_a_model_that_was_ready_is_not_to_blame_for_one_that_loads(polling):
    polling.watch.wish("one")
    polling.watch.wish("two")
    polling.turn()
    polling.say(GPU, Staged(1, (1,)))
    polling.die(GPU)
    for order in (1, 2):
        polling.say(CPU, Staged(order, (1,)))
    assert polling.watch.wished_again == ["one"]


def test_the_only_one_that_a_worker_had_is_to_blame(polling):
    polling.watch.wish("one")
    polling.turn()
    polling.say(GPU, Staged(1, (1,)))
    polling.die(GPU)
    polling.say(CPU, Staged(1, (1,)))
    assert polling.watch.wished_again == []


def test_who_asked_for_a_model_that_was_not_to_blame_may_try_again(explicit):
    for token, model in enumerate(("one", "two")):
        explicit.say(FRONT_END, ControlRequest(token, model, True))
    for name in (CPU, GPU):
        explicit.die(name, hopeless=True)
    words = {reply.token: (reply.word, reply.message) for reply in explicit.replies()}
    assert words == {
        0: ("control", "model 'one' is not loaded: the worker process ended while the model was "
            "being loaded"),
        1: ("unavailable", "model 'two' is not loaded: the worker process ended while it was "
            "busy with another model"),
    }
    explicit.say(FRONT_END, ControlRequest(7, "one", True))
    (reply,) = explicit.replies()
    assert (reply.word, reply.message) == (
        "unavailable", "model 'one' is not loaded: no worker process runs"
    )


def test_a_wish_waits_for_a_worker(polling):
    for name in (CPU, GPU):
        polling.die(name, hopeless=True)
    polling.watch.wish("one")
    polling.turn()
    polling.start(CPU)
    assert orders(polling, CPU) == [(1, "one")]


def test_a_folder_that_keeps_changing_is_loaded_as_it_is_now(polling):
    """Not once for each time that it changed, while nobody had time for it."""
    polling.watch.wish("one", look=1)
    polling.turn()
    for look in (2, 3, 4):
        polling.watch.wish("one", look=look)
        polling.turn()
    for name in (CPU, GPU):
        assert orders(polling, name) == [(1, "one")]
        polling.say(name, Staged(1, (1,)))
    assert polling.watch.wished_again == []  # it was, already
    for name in (CPU, GPU):
        polling.say(name, Freed(1, 0, 0))
    for name in (CPU, GPU):
        (order,) = {number for number, _ in orders(polling, name)}
        polling.say(name, Staged(order, (1,)))
    assert [len(polling.told(name, CommitModel)) for name in (CPU, GPU)] == [1, 1]
    for name in (CPU, GPU):
        polling.say(name, Freed(order, 0, 0))
        assert orders(polling, name) == []


def test_what_changed_with_nobody_wishing_anew_is_wished_for_again(polling):
    polling.watch.wish("one", look=1)
    polling.turn()
    polling.watch.now["one"] = Fingerprint((("a.onnx", 1, 2, 9, 3),))
    for name in (CPU, GPU):
        polling.say(name, Staged(1, (1,)))
    assert polling.watch.wished_again == ["one"]
    assert not polling.told(CPU, CommitModel)


def test_nothing_new_begins_while_the_daemon_stops(polling):
    polling.watch.wish("one")
    polling.turn()
    polling.watch.wish("one", look=2)
    polling.turn()
    polling.control.stop()
    polling.watch.wish("two")
    for name in (CPU, GPU):
        polling.say(name, Staged(1, (1,)))
        polling.say(name, Freed(1, 0, 0))
    assert [model for _, model in orders(polling, CPU)] == ["one"]
    assert not polling.told(CPU, UnloadModel)


def test_files_that_did_not_come_are_an_error_and_not_the_end(explicit):
    """Whatever a front end says, the supervisor lives on."""
    explicit.say(FRONT_END, ControlRequest(7, "one", True, "", (("1/a.onnx", 0, 3),)))
    (reply,) = explicit.replies()
    assert (reply.word, reply.message) == (
        "control", "the server can not keep what came with the load"
    )
