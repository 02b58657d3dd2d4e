"""The daemon from the supervisor's side: take the ports, start everybody, loop, leave nothing."""

import logging
import os
import selectors
from collections.abc import Callable
from contextlib import ExitStack

import msgspec
from setproctitle import setproctitle

from trtserve import log
from trtserve.config import Settings
from trtserve.ipc.message import ModelUpdate
from trtserve.model.spec import ModelState
from trtserve.supervisor.crew import Crew
from trtserve.supervisor.desk import Desk
from trtserve.supervisor.exposition import Exposition
from trtserve.supervisor.http import HttpServer
from trtserve.supervisor.listen import ReadyFile, reserved_port, unix_socket_path
from trtserve.supervisor.loop import Supervisor
from trtserve.supervisor.role import Targets, roles
from trtserve.supervisor.signals import Signals
from trtserve.supervisor.snapshot import Snapshot

_log = logging.getLogger(__name__)

Announce = Callable[[Settings, Snapshot], None]
"""Called once, when everything has settled, with the settings in force (free ports chosen)."""


def run(settings: Settings, announce: Announce, targets: Targets | None = None) -> None:
    """Run the daemon until a signal stops it. For the main thread.

    Devices and front ends are chosen already: `settings.devices` names each device, and
    `settings.front_ends` is at least 1. Raises OperatorError when it can not start. Leaves
    nothing behind in any case: no process, no socket, no ready file.
    """
    setproctitle("trtserve supervisor")
    log.configure("supervisor", settings.log_level, settings.log_format)
    with ExitStack() as stack:
        grpc_port = stack.enter_context(reserved_port(settings.host, settings.grpc_port))
        path = stack.enter_context(unix_socket_path(settings.socket))
        ready_file = stack.enter_context(ReadyFile(settings.ready_file))
        selector = stack.enter_context(selectors.DefaultSelector())
        signals = stack.enter_context(Signals(selector))
        desk = Desk(signals.wake)
        http = HttpServer(desk, Exposition(os.getpid()))
        stack.callback(http.close)
        http_port = http.open(settings.host, settings.http_port)
        settings = msgspec.structs.replace(
            settings, grpc_port=grpc_port, http_port=http_port, socket=path
        )
        everybody = roles(settings.front_ends, settings.devices, targets or Targets())
        crew = Crew(selector, everybody, msgspec.json.encode(settings))
        stack.callback(crew.close)

        def settled(snapshot: Snapshot) -> None:
            try:
                announce(settings, snapshot)
            except OSError as error:  # nobody reads our standard output any more
                _log.warning("the start-up report could not be shown: %s", error)
            ready_file.write(_ready_content(snapshot))

        supervisor = Supervisor(settings, crew, signals, desk, settled)
        http.start()
        stack.callback(desk.close)
        supervisor.run(selector)


def _ready_content(snapshot: Snapshot) -> dict[str, object]:
    pids: dict[str, int | None] = {"supervisor": os.getpid()}
    pids |= {process.name: process.pid for process in snapshot.processes}
    # A version that lives on several devices is named once, with what is wrong where it is.
    models: dict[tuple[str, int], ModelUpdate] = {}
    for update in snapshot.models:
        known = models.setdefault((update.model, update.version), update)
        if known.state is ModelState.READY:
            models[update.model, update.version] = update
    return {
        "grpc": snapshot.addresses.grpc,
        "http": snapshot.addresses.http,
        "socket": snapshot.addresses.socket,
        "pids": pids,
        "models": [
            {"name": update.model, "version": update.version, "state": update.state,
             "reason": update.full_reason}
            for update in models.values()
        ],
    }
