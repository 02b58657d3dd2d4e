"""kill -9 of the supervisor: nothing of the daemon outlives it."""

import os
import select
import signal
import socket
from pathlib import Path

import grpc
import pytest

from tests.e2e import calls
from tests.e2e.daemon_process import PATIENCE_S, Daemon
from tests.e2e.repositories import add_plus, add_work

Inode = tuple[int, int]
"""Device and number: what a memfd is known by."""


def memory_files(pid: int) -> set[Inode]:
    """The memfds that a process holds open."""
    found = set()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        try:
            if os.readlink(link).startswith("/memfd:"):
                status = link.stat()
                found.add((status.st_dev, status.st_ino))
        except FileNotFoundError:  # closed meanwhile
            pass
    return found


def memory_files_of_all() -> set[Inode]:
    """The memfds that any process holds open, of those that we may look into."""
    found = set()
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                found |= memory_files(int(process.name))
            except OSError:  # ended meanwhile, or not ours to see
                pass
    return found


def assert_nobody_listens(address: str) -> None:
    host, _, port = address.rpartition(":")
    with socket.socket() as probe, pytest.raises(ConnectionRefusedError):
        probe.connect((host, int(port)))


def test_children_and_their_memory_go_with_it(start, tmp_path):
    add_plus(tmp_path / "models")
    add_work(tmp_path / "models")
    daemon: Daemon = start("--front-ends", "2")
    children = daemon.children()
    assert set(children) == {"worker cpu", "front end 1", "front end 2"}
    arenas = {inode for pid in children.values() for inode in memory_files(pid)}
    assert len(arenas) == 3
    assert arenas <= memory_files_of_all()
    pidfds = [os.pidfd_open(pid) for pid in children.values()]
    try:
        with grpc.insecure_channel(
            daemon.grpc, options=(("grpc.enable_retries", 0),)
        ) as channel:
            call = calls.infer(channel).future(calls.work_request(10**7))
            daemon.until_metric(1, "trtserve_lanes_busy")
            daemon.signal(signal.SIGKILL)
            assert daemon.end() == -signal.SIGKILL
            for name, pidfd in zip(children, pidfds, strict=True):
                assert select.select([pidfd], [], [], PATIENCE_S)[0], f"{name} lives on"
            assert calls.error_of(call)[0] == "UNAVAILABLE"
    finally:
        for pidfd in pidfds:
            os.close(pidfd)
    assert not arenas & memory_files_of_all()
    assert_nobody_listens(daemon.grpc)
    assert_nobody_listens(str(daemon.ready["http"]))
