"""Looking at the status of a real supervisor with scripted children."""

import json
from contextlib import closing

from tests.supervisor.daemon import Daemon


def test_workers_are_told_to_trace_once_somebody_looks(tmp_path):
    with closing(Daemon(tmp_path)) as daemon:
        daemon.settle()
        assert daemon.get("/metrics")[0] == daemon.get("/readyz")[0] == 200
        assert "worker cpu: Trace" not in daemon.seen
        status, _, body = daemon.get("/status.json")
        assert status == 200
        (model,) = json.loads(body)["models"]
        assert (model["model"], model["state"], model["ok"]) == ("toy", "READY", 6)
        assert model["places"][0]["worker"] == "worker cpu"
        daemon.event("worker cpu: Trace")
        daemon.get("/")
        daemon.stop()
        assert daemon.end()[0] == 0
        assert daemon.seen.count("worker cpu: Trace") <= 1
