"""One child process: starting it, hearing it, noticing that it hangs, reaping it."""

import logging
import os
import signal
import socket
import subprocess
import sys
from enum import StrEnum

from trtserve.clock import NS_PER_S
from trtserve.errors import ProtocolError
from trtserve.ipc.channel import Channel
from trtserve.ipc.message import AnyMessage, Start
from trtserve.ipc.statistics import Statistics
from trtserve.supervisor.role import Role

_log = logging.getLogger(__name__)

HUNG_NS = 30 * NS_PER_S
"""Without a word for this long a child hangs. Heartbeats come every second; importing a runtime
on a busy machine takes some seconds, and a paused machine must not look like a hung child."""


class ChildState(StrEnum):
    """The states of a child, in the order they come."""

    STARTING = "starting"
    SERVING = "serving"
    DRAINING = "draining"
    DEAD = "dead"


class Child:
    """A running process that plays a role. Made by `spawn`; `reap` ends it.

    `statistics` are those of its last heartbeat.
    """

    def __init__(
        self, process: subprocess.Popen[bytes], pidfd: int, control: Channel, now: int
    ) -> None:
        self._process = process
        self.pid = process.pid
        self.pidfd = pidfd
        self.control = control
        self.started_ns = now
        self.heard_ns = now
        self.state = ChildState.STARTING
        self.statistics = Statistics()

    @classmethod
    def spawn(
        cls, role: Role, settings: bytes, now: int,
        models: tuple[tuple[str, str], ...] | None = None, files: bytes = b"",
    ) -> "Child":
        """Start a process and send it Start, with the models that a worker loads (None: all in
        the repository) or the files that a front end uses. Raises OSError when the system can
        not.

        It gets a session of its own, so that a terminal's Ctrl-C reaches the supervisor only,
        and its standard output goes where the log goes.
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            command = [sys.executable, "-P", "-m", "trtserve.supervisor.entry", role.target,
                       str(theirs.fileno()), role.title]
            try:
                process = subprocess.Popen(
                    command, pass_fds=(theirs.fileno(),), stdin=subprocess.DEVNULL,
                    stdout=2, start_new_session=True,
                )
            except OSError:
                ours.close()
                raise
        # Nobody else waits for this pid, so it can not have been given to another process yet.
        child = cls(process, os.pidfd_open(process.pid), Channel(ours), now)
        child.control.send(Start(role.index, role.name, settings, role.device, models, files))
        child.control.flush()
        return child

    def receive(self, now: int) -> list[AnyMessage] | None:
        """What it said; None when it has hung up. One that talks nonsense is killed."""
        try:
            messages = self.control.receive()
        except ProtocolError as error:
            _log.error("process %d is killed: %s", self.pid, error)
            self.kill()
            return None
        if messages:
            self.heard_ns = now
        return messages

    def hung(self, now: int) -> bool:
        """Whether it has been silent for too long."""
        return now - self.heard_ns >= HUNG_NS

    def kill(self) -> None:
        """kill -9. It is dead once its pidfd says so."""
        signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)

    def reap(self) -> str:
        """Wait for its end and close everything: how it ended, for the log."""
        code = self._process.wait()
        self.close()
        if code >= 0:
            return f"exit code {code}"
        try:
            return f"signal {signal.Signals(-code).name}"
        except ValueError:
            return f"signal {-code}"

    def close(self) -> None:
        """Close its descriptors. Twice is harmless."""
        self.state = ChildState.DEAD
        self.control.close()
        if self.pidfd >= 0:
            os.close(self.pidfd)
            self.pidfd = -1
