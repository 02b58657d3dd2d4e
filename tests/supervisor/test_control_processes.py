"""Models that come and go, with real processes that do as tests say."""

import os
import signal

import pytest

from tests.supervisor.daemon import Daemon
from trtserve.supervisor.quarantine import REASON

WORKERS = ("worker cpu", "worker cuda:0")


@pytest.fixture
def start(tmp_path):
    """Start daemons over a repository of some models, that do not outlive the test."""
    daemons = []

    def start(front_end, worker, models, **settings):
        for name in models:
            (tmp_path / name).mkdir()
        daemons.append(Daemon(tmp_path, front_end, worker, **settings))
        return daemons[-1]

    yield start
    for daemon in daemons:
        daemon.close()


def loads(start, model):
    """Two workers, and a front end that asks for a model."""
    daemon = start(
        f"front_end_that_loads_{model}", "loading_worker", [model, "served"],
        devices="cpu,cuda:0", model_control_mode="explicit", load_models="served",
    )
    for name in WORKERS:
        daemon.event(f"{name}: starts with served")
        daemon.event(f"{name}: LoadModel {model}")
    return daemon


def test_all_workers_switch_and_a_new_one_begins_with_the_model(start):
    daemon = loads(start, "good")
    for name in WORKERS:
        daemon.event(f"{name}: CommitModel")
    daemon.event("front end 1: ControlReply 7 ok: ")
    os.kill(daemon.event("worker cpu: started"), signal.SIGKILL)
    daemon.event("worker cpu: starts with good, served")


def test_what_one_worker_can_not_load_the_others_let_go(start):
    daemon = loads(start, "broken")
    daemon.event("worker cpu: AbandonModel")
    daemon.event(
        "front end 1: ControlReply 7 control: model 'broken' is not loaded: it is broken"
    )
    assert not [event for event in daemon.seen if "CommitModel" in event]
    assert "worker cuda:0: AbandonModel" not in daemon.seen  # it holds nothing of it


def test_what_kills_a_worker_is_not_loaded_anywhere_and_nothing_hangs(start):
    daemon = loads(start, "deadly")
    daemon.event("worker cpu: AbandonModel")
    daemon.event(
        "front end 1: ControlReply 7 control: model 'deadly' is not loaded: the worker process "
        "ended while the model was being loaded"
    )
    daemon.event("worker cuda:0: starts with served")
    assert not [event for event in daemon.seen if "CommitModel" in event]
    daemon.stop()
    daemon.end()
    assert daemon.seen.count("worker cuda:0: LoadModel deadly") == 1


def test_a_model_that_ends_its_worker_twice_is_left_out(start):
    daemon = start("front_end", "choking_worker", ["choke", "next", "toy"]).settle()
    daemon.event("worker cpu: loads next, toy")
    assert daemon.seen.count("worker cpu: chokes") == 2
    status, _, body = daemon.get("/readyz")
    assert status == 503
    assert body == (
        f"not ready: model choke version 1 is UNAVAILABLE on worker cpu: {REASON}\n"
    )
    daemon.stop()
    code, error = daemon.end()
    assert code == 0
    assert f"model choke is left out on worker cpu: {REASON}" in error


def test_models_that_are_not_there_can_not_be_asked_for(start):
    daemon = start("front_end", "worker", ["a", "b"], model_control_mode="explicit",
                   load_models="a,x,y")
    code, error = daemon.end()
    assert code == 1
    assert "load_models: the repository has no model x, y. It has a, b; * is all of them" in error


@pytest.mark.parametrize(
    "settings", [{"load_models": "*"}, {"allow_file_override": True}],
    ids=lambda settings: next(iter(settings)),
)
def test_settings_that_mean_nothing_are_refused(start, settings):
    code, error = start("front_end", "worker", [], **settings).end()
    assert code == 1
    assert f"{next(iter(settings))}: it means nothing with model_control_mode none" in error
