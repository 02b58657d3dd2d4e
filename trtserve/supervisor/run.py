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
from trtserve.security.https import Https
from trtserve.security.start import check
from trtserve.supervisor.control import ModelControl
from trtserve.supervisor.crew import Crew
from trtserve.supervisor.desk import Desk
from trtserve.supervisor.exposition import Exposition
from trtserve.supervisor.first_models import first_models
from trtserve.supervisor.host import allow_files
from trtserve.supervisor.http import HttpServer
from trtserve.supervisor.listen import ReadyFile, reserved_port, unix_socket_path
from trtserve.supervisor.loop import Supervisor
from trtserve.supervisor.role import Targets, roles
from trtserve.supervisor.scratch import Scratch
from trtserve.supervisor.signals import Signals
from trtserve.supervisor.snapshot import Snapshot
from trtserve.supervisor.watch import Watch

_log = logging.getLogger(__name__)

_OTHER_FILES = 512
"""What a process has open beside its clients' connections, with room to spare."""

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
    keeper = check(settings)
    https = None
    if settings.http_tls and keeper.identity is not None:
        https = Https(keeper.identity)
    _allow_connections(settings)
    with ExitStack() as stack:
        grpc_port = stack.enter_context(reserved_port(settings.host, settings.grpc_port))
        path = stack.enter_context(unix_socket_path(settings.socket))
        ready_file = stack.enter_context(ReadyFile(settings.ready_file))
        selector = stack.enter_context(selectors.DefaultSelector())
        signals = stack.enter_context(Signals(selector))
        desk = Desk(signals.wake)
        http = HttpServer(
            desk, Exposition(os.getpid()), details_for_all=settings.http_details_for_all
        )
        stack.callback(http.close)
        http_port = http.open(settings.http_host or settings.host, settings.http_port, https)
        settings = msgspec.structs.replace(
            settings, grpc_port=grpc_port, http_port=http_port, socket=path
        )
        scratch = stack.enter_context(Scratch(settings.scratch_folder))
        if settings.allow_config_override or settings.allow_file_override:
            scratch.check()
        watch = None
        if settings.model_control_mode == "poll":
            watch = stack.enter_context(Watch(
                settings.repository, settings.repository_poll_seconds,
                settings.repository_settle_seconds, signals.wake,
            ))
        desired = first_models(settings, watch)
        everybody = roles(settings.front_ends, settings.devices, targets or Targets())
        crew = Crew(selector, everybody, msgspec.json.encode(settings), keeper)
        stack.callback(crew.close)
        control = ModelControl(settings, crew, scratch, desired, watch)
        crew.models = control.models

        def settled(snapshot: Snapshot) -> None:
            try:
                announce(settings, snapshot)
            except OSError as error:  # nobody reads our standard output any more
                _log.warning("the start-up report could not be shown: %s", error)
            ready_file.write(_ready_content(snapshot))

        supervisor = Supervisor(settings, crew, signals, desk, control, settled)
        if watch is not None:
            watch.start()
        http.start()
        stack.callback(desk.close)
        supervisor.run(selector)


def _allow_connections(settings: Settings) -> None:
    """Have room for the connections that a front end takes, and for its other files."""
    wanted = settings.grpc_max_connections + _OTHER_FILES
    allowed = allow_files(wanted)
    if allowed < wanted:
        _log.warning(
            "a process may open %d files here, too few for grpc_max_connections (%d): connections "
            "beyond wait for others to end. Raise the limit (ulimit -n, LimitNOFILE)",
            allowed, settings.grpc_max_connections,
        )


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
