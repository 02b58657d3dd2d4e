"""What the status tells to those who ask from another machine."""

from dataclasses import replace

import msgspec
import pytest

from tests.supervisor.snapshots import snapshot
from tests.supervisor.test_status_data import lane_batch
from trtserve.ipc.message import ModelUpdate
from trtserve.ipc.statistics import ErrorSample, Statistics
from trtserve.model.spec import ModelState
from trtserve.supervisor.status_data import status_of
from trtserve.supervisor.status_strangers import for_strangers, is_near, short
from trtserve.supervisor.status_watch import Watched

PATH = "/srv/models/det/1/model.plan"


@pytest.mark.parametrize(("address", "near"), [
    ("127.0.0.1", True), ("127.8.8.8", True), ("::1", True), ("::ffff:127.0.0.1", True),
    ("10.0.0.7", False), ("::ffff:10.0.0.7", False), ("fe80::1%eth0", False), ("", False),
    ("localhost.example", False), ("1.127.0.0", False),
])
def test_who_is_near(address, near):
    assert is_near(address) is near


def test_reasons_lose_their_causes():
    assert short((
        f"model det version 1 is UNAVAILABLE on worker cuda:0: {PATH} can not be read",
        "front end 1 does not listen yet",
    )) == (
        "model det version 1 is UNAVAILABLE on worker cuda:0", "front end 1 does not listen yet"
    )


def test_strangers_see_models_and_counts_and_nothing_of_the_inside():
    broken = ModelUpdate("det", 1, ModelState.UNAVAILABLE, f"{PATH} can not be read")
    statistics = Statistics(errors=(ErrorSample("det", "1", "invalid", "no input 'secret'", 1),))
    watched = Watched(9, (("worker cpu", broken),), 0.0, Statistics(), [lane_batch(1)])
    whole = status_of(replace(snapshot(), statistics=statistics, watched=watched))
    told = msgspec.json.encode(whole).decode()
    assert PATH in told
    assert "secret" in told
    assert "/run/x.sock" in told

    assert whole.batches

    seen = for_strangers(whole)
    told = msgspec.json.encode(seen).decode()
    for inside in (PATH, "secret", "/run/x.sock"):
        assert inside not in told
    assert all(process.pid is None for process in seen.processes)
    assert seen.batches == ()
    assert [(model.model, model.state) for model in seen.models] == [
        (model.model, model.state) for model in whole.models
    ]
    assert [error.word for error in seen.errors] == ["invalid"]
