"""Helpers: a real supervisor in a process of its own, with scripted children.

Run as a program it is that supervisor: `daemon.py SETTINGS_JSON FRONT_END WORKER`, the last two
being functions of trtserve.testing.children. It prints the ready settings as one line of JSON.
"""

import json
import os
import select
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request

import msgspec

from trtserve.config import Settings
from trtserve.errors import OperatorError
from trtserve.supervisor.role import Targets
from trtserve.supervisor.run import run

PATIENCE_S = 30
"""How long a test waits for what must happen; only a failing test ever waits that long."""


def wait_readable(fd, what):
    """Block until a descriptor is readable. Fails the test if it never is."""
    if not select.select([fd], [], [], PATIENCE_S)[0]:
        raise AssertionError(f"waited {PATIENCE_S} s for {what}")


class Daemon:
    """A supervisor process and the events of its children."""

    def __init__(self, directory, front_end="front_end", worker="worker", **settings):
        self._events = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._events.bind(str(directory / "events"))
        values = {
            "repository": str(directory), "grpc_port": 0, "http_port": 0, "devices": "cpu",
            "front_ends": 1,
        } | settings
        self.process = subprocess.Popen(
            [sys.executable, __file__, json.dumps(values), front_end, worker],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        self._pidfd = os.pidfd_open(self.process.pid)
        self._pids: set[int] = set()
        self._untaken: list[tuple[int, str]] = []
        self.seen: list[str] = []
        self._settings: Settings | None = None

    def close(self):
        """End it whatever it does, and its children with it."""
        if self.process.poll() is None:
            self.process.kill()
        # First: a child whose event finds no room waits for it, and holds standard error open.
        self._events.close()
        self.process.communicate()
        os.close(self._pidfd)
        for pid in self.all_pids():
            wait_gone(pid)

    def settle(self):
        """Wait for the start-up report."""
        assert self.process.stdout is not None
        report, events = self.process.stdout.fileno(), self._events.fileno()
        # Events are read meanwhile: a child whose event finds no room waits for it.
        while report not in (ready := select.select([report, events], [], [], PATIENCE_S)[0]):
            assert ready, f"waited {PATIENCE_S} s for the report"
            self._read_event()
        line = self.process.stdout.readline()
        assert line, self.process.communicate()[1]
        self._settings = msgspec.json.decode(line, type=Settings)
        return self

    @property
    def settings(self):
        """The settings in force, free ports chosen."""
        assert self._settings is not None
        return self._settings

    def event(self, wanted):
        """Wait for "NAME: EVENT" and take it: the pid that it happened to."""
        while True:
            for index, (pid, event) in enumerate(self._untaken):
                if event == wanted:
                    del self._untaken[index]
                    return pid
            ready = self._wait()
            if self._events.fileno() in ready:
                self._read_event()
            else:
                ended = self.process.communicate()[1] if ready else f"waited {PATIENCE_S} s"
                raise AssertionError(f"no '{wanted}' after {self.seen}: {ended}")

    def all_pids(self):
        """The children that have said something."""
        return set(self._pids)

    def stop(self, number=signal.SIGTERM):
        """Send a signal."""
        self.process.send_signal(number)

    def end(self):
        """Wait for its end: the exit code, and what it said on standard error."""
        while True:
            # Read on meanwhile: a child whose event finds no room waits for it.
            ready = self._wait()
            if self._events.fileno() in ready:
                self._read_event()
            elif ready:
                break
            else:
                raise AssertionError(f"no end within {PATIENCE_S} s after {self.seen}")
        error = self.process.communicate()[1]
        return self.process.returncode, error

    def get(self, path, method="GET", **headers):
        """An HTTP answer: (status, headers, body)."""
        request = urllib.request.Request(
            f"http://{self.settings.host}:{self.settings.http_port}{path}", method=method,
            headers=headers,
        )
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
                return answer.status, answer.headers, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.headers, error.read().decode()

    def _wait(self):
        """The descriptors that are ready: of the events, and of the supervisor's end."""
        return select.select([self._events.fileno(), self._pidfd], [], [], PATIENCE_S)[0]

    def _read_event(self):
        pid, _, event = self._events.recv(4096).decode().partition(" ")
        self._pids.add(int(pid))
        self._untaken.append((int(pid), event))
        self.seen.append(event)


def wait_gone(pid):
    """Block until a process that is not our child has ended."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        wait_readable(pidfd, f"process {pid} to end")
    finally:
        os.close(pidfd)


def _main(settings, front_end, worker):
    def announce(settings, _snapshot):
        sys.stdout.write(msgspec.json.encode(settings).decode() + "\n")
        sys.stdout.flush()

    children = "trtserve.testing.children"
    targets = Targets(f"{children}:{front_end}", f"{children}:{worker}")
    try:
        run(msgspec.json.decode(settings, type=Settings), announce, targets)
    except OperatorError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    _main(*sys.argv[1:])
