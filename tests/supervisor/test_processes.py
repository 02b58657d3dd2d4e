"""The supervisor with real processes: deaths, restarts, stopping. Nothing here sleeps."""

import json
import os
import signal
import socket
import subprocess
import sys

import pytest

from tests.supervisor.daemon import Daemon, wait_gone

KILL = signal.SIGKILL


@pytest.fixture
def start(tmp_path):
    """Start daemons that do not outlive the test."""
    daemons = []

    def start(*args, **settings):
        daemons.append(Daemon(tmp_path, *args, **settings))
        return daemons[-1]

    yield start
    for daemon in daemons:
        daemon.close()


def test_it_starts_serves_and_stops_in_order(start, tmp_path):
    ready_file, path = tmp_path / "ready.json", tmp_path / "grpc.sock"
    daemon = start(front_ends=2, ready_file=str(ready_file), socket=str(path)).settle()
    front_ends = ["front end 1", "front end 2"]
    for name in front_ends:
        daemon.event(f"{name}: Connect worker cpu")
    assert daemon.settings.grpc_port > 0
    assert daemon.settings.http_port > 0
    assert daemon.get("/readyz")[0] == 200
    ready = json.loads(ready_file.read_text())
    assert ready["grpc"] == f"127.0.0.1:{daemon.settings.grpc_port}"
    assert ready["http"] == f"127.0.0.1:{daemon.settings.http_port}"
    assert ready["socket"] == str(path)
    assert ready["models"] == [{"name": "toy", "version": 1, "state": "READY", "reason": ""}]
    assert ready["pids"]["supervisor"] == daemon.process.pid
    assert {ready["pids"][name] for name in front_ends} <= daemon.all_pids()
    # As a front end would have made it.
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(path))

    daemon.stop()
    code, _ = daemon.end()
    assert code == 0
    assert not ready_file.exists()
    assert not path.exists()
    stops = [event for event in daemon.seen if "Drain" in event or "Stop" in event]
    assert {*stops[:-1]} == {f"{n}: {e}" for n in front_ends for e in ("Drain", "Stop 30")}
    assert stops[-1] == "worker cpu: Stop 30"
    for pid in daemon.all_pids():
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_processes_have_titles(start):
    daemon = start().settle()
    pids = {"supervisor": daemon.process.pid}
    for name in ("front end 1", "worker cpu"):
        pids[name] = daemon.event(f"{name}: started")
    for name, pid in pids.items():
        with open(f"/proc/{pid}/cmdline") as file:
            assert file.read().rstrip("\0") == f"trtserve {name}"


def test_each_device_has_a_worker_that_is_told_which(start, tmp_path):
    ready_file = tmp_path / "ready.json"
    daemon = start(devices="cpu,cuda:0,cuda:11", ready_file=str(ready_file)).settle()
    devices = ("cpu", "cuda:0", "cuda:11")
    pids = {f"worker {device}": daemon.event(f"worker {device}: has {device}")
            for device in devices}
    for name in pids:
        daemon.event(f"front end 1: Connect {name}")
    assert daemon.get("/readyz")[0] == 200
    ready = json.loads(ready_file.read_text())
    assert ready["pids"].items() >= pids.items()
    assert len(ready["models"]) == 1  # it lives on three devices
    os.kill(pids["worker cuda:0"], KILL)
    daemon.event("front end 1: Reaped worker cuda:0")
    assert daemon.event("worker cuda:0: has cuda:0") not in pids.values()


def test_a_killed_worker_is_replaced_and_its_peers_are_told(start):
    daemon = start().settle()
    first = daemon.event("front end 1: Connect worker cpu")
    os.kill(daemon.event("worker cpu: started"), KILL)
    assert daemon.event("front end 1: Reaped worker cpu") == first
    assert daemon.event("front end 1: Connect worker cpu") == first
    status, _, metrics = daemon.get("/metrics")
    assert status == 200
    assert 'trtserve_worker_restarts_total{process="worker cpu"} 1.0' in metrics
    assert 'trtserve_worker_restarts_total{process="front end 1"} 0.0' in metrics


def test_a_killed_front_end_is_replaced_and_its_peers_are_told(start):
    daemon = start().settle()
    front_end = daemon.event("front end 1: Connect worker cpu")
    os.kill(front_end, KILL)
    daemon.event("worker cpu: Reaped front end 1")
    for _ in range(2):
        daemon.event("worker cpu: Connect front end 1")
    assert daemon.event("front end 1: Connect worker cpu") != front_end


def test_counts_survive_a_death_and_gauges_do_not(start):
    daemon = start().settle()
    front_end = daemon.event("front end 1: Connect worker cpu")
    requests = 'trtserve_requests_total{model="toy",outcome="ok",version="1"} '
    in_flight = "trtserve_requests_in_flight "
    before = daemon.get("/metrics")[2]
    assert requests + "6.0" in before
    assert in_flight + "4.0" in before
    os.kill(front_end, KILL)
    daemon.event("front end 1: Connect worker cpu")
    after = daemon.get("/metrics")[2]
    assert requests + "9.0" in after
    assert in_flight + "4.0" in after
    assert 'nv_inference_request_success{model="toy",version="1"} 9.0' in after
    assert ('trtserve_request_duration_seconds_bucket{le="0.002",model="toy",version="1"} 9.0'
            in after)


def test_a_front_end_gets_everybodys_statistics(start):
    daemon = start("asking_front_end").settle()
    daemon.event("front end 1: StatisticsReply 7 requests 6")


def test_a_worker_that_keeps_dying_is_hopeless_and_the_daemon_not_ready(start):
    daemon = start(worker="dying_worker")
    daemon.event("front end 1: Reaped worker cpu hopeless")
    assert daemon.seen.count("worker cpu: dies") == 5
    daemon.stop()
    assert daemon.end()[0] == 0


def test_one_broken_model_makes_the_daemon_not_ready_with_the_reason(start):
    daemon = start(worker="broken_worker").settle()
    status, _, body = daemon.get("/readyz")
    assert status == 503
    assert body == ("not ready: model broken version 1 is UNAVAILABLE on worker cpu: "
                    "its file is <empty>\n")
    assert daemon.get("/livez")[0] == 200


def test_fatal_before_the_daemon_was_ready_ends_it_with_the_reason(start, tmp_path):
    daemon = start(worker="fatal_worker", ready_file=str(tmp_path / "ready.json"))
    code, error = daemon.end()
    assert code == 1
    assert "error: worker cpu: there is no such device. Use --devices cpu" in error
    assert not (tmp_path / "ready.json").exists()


def test_a_second_signal_hurries(start):
    daemon = start("patient_front_end").settle()
    daemon.stop()
    daemon.event("front end 1: Stop 30")
    daemon.stop()
    daemon.event("front end 1: Stop 0")
    assert daemon.end()[0] == 0


def test_a_child_that_does_not_stop_is_killed(start):
    daemon = start("stubborn_front_end").settle()
    daemon.stop(signal.SIGINT)
    daemon.event("front end 1: Stop 30")
    daemon.stop(signal.SIGINT)
    code, error = daemon.end()
    assert code == 0
    assert "front end does not stop: killed" in error


def test_the_drain_delay_holds_back_stop_but_not_not_ready(start):
    daemon = start(drain_delay_seconds=1e6).settle()
    daemon.stop()
    daemon.event("front end 1: Drain")
    status, _, body = daemon.get("/readyz")
    assert (status, body) == (503, "not ready: the daemon is stopping\n")
    assert "front end 1: Stop 30" not in daemon.seen
    daemon.stop()
    assert daemon.end()[0] == 0


def test_children_end_when_the_supervisor_is_killed(start):
    daemon = start(front_ends=2).settle()
    for name in ("front end 1", "front end 2"):
        daemon.event(f"{name}: Connect worker cpu")
    daemon.event("worker cpu: started")
    daemon.stop(KILL)
    assert daemon.end()[0] == -KILL
    pids = daemon.all_pids()
    assert len(pids) == 3
    for pid in pids:
        wait_gone(pid)


def test_a_port_in_use_is_a_clear_error(start):
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        code, error = start(grpc_port=port).end()
    assert code == 1
    assert f"error: 127.0.0.1:{port}: another server has this port. " in error
    assert "--grpc-port" in error


def test_the_supervisor_imports_no_heavy_library():
    code = ("import sys, trtserve.supervisor.run, trtserve.cli.serve\n"
            "print({'grpc', 'numpy', 'onnxruntime', 'google.protobuf'} & {*sys.modules})")
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout == "set()\n"
