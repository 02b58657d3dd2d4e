"""The start of every child: `python -m trtserve.supervisor.entry MODULE:FUNCTION FD TITLE`.

It takes the control channel, waits for Start, and calls the role's function with both; the
child's exit code is what that returns.
"""

import faulthandler
import gc
import importlib
import logging
import select
import signal
import sys

import msgspec
from setproctitle import setproctitle

from trtserve import log
from trtserve.config import Settings
from trtserve.errors import ProtocolError
from trtserve.ipc.channel import Channel
from trtserve.ipc.message import Start

_log = logging.getLogger(__name__)

GC_THRESHOLD = 20_000
"""New containers between two collections, for Python's 700. Requests make and drop hundreds of
them without cycles; looking for cycles that often is time taken from answering."""


def main(target: str, fd: int, title: str) -> int:
    """Be the child: the process's exit code.

    The signals that a terminal or an init system sends to the whole group are ignored: the
    supervisor says when to stop, and its death is the end of file on the control channel.
    """
    setproctitle(title)
    faulthandler.enable()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    control = Channel.from_fd(fd)
    start = _wait_for_start(control)
    if start is None:
        return 0
    settings = msgspec.json.decode(start.settings, type=Settings)
    log.configure(start.name, settings.log_level, settings.log_format)
    try:
        module, _, name = target.partition(":")
        function = getattr(importlib.import_module(module), name)
        # What was imported stays: the collector need not look through it again and again.
        gc.collect()
        gc.freeze()
        gc.set_threshold(GC_THRESHOLD)
        return int(function(control, start))
    except Exception:
        _log.exception("%s failed", start.name)
        return 1


def _wait_for_start(control: Channel) -> Start | None:
    """The first message, or None if the supervisor is gone already.

    The supervisor sends it alone in its datagram, so nothing else is lost here.
    """
    poller = select.poll()
    poller.register(control, select.POLLIN)
    while True:
        poller.poll()
        messages = control.receive()
        if messages is None:
            return None
        if messages:
            break
    if len(messages) != 1 or not isinstance(messages[0], Start):
        kinds = ", ".join(type(message).__name__ for message in messages)
        raise ProtocolError(f"the first message to a child was {kinds}, not Start alone")
    return messages[0]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2]), sys.argv[3]))
