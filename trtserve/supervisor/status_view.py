"""The status for the threads of the HTTP port: asked of the loop, and shared for a moment."""

import threading
from typing import Protocol

from trtserve.clock import NS_PER_MS, now_ns
from trtserve.supervisor.snapshot import Snapshot
from trtserve.supervisor.status_data import Status, status_of

FRESH_NS = 500 * NS_PER_MS
"""Within this time all who look get the same: any number of them costs the daemon two polls a
second, and what one page asks for in a row belongs together."""


class Asked(Protocol):
    """Whom to ask."""

    def snapshot(self, fresh: bool, watching: bool = False) -> Snapshot:
        """The daemon as it is. Raises TimeoutError when the loop does not answer."""


class StatusView:
    """For any number of threads."""

    def __init__(self, asked: Asked) -> None:
        self._asked = asked
        self._lock = threading.Lock()
        self._taken: tuple[int, Snapshot] | None = None

    def status(self, after: int = 0) -> Status:
        """The status, with the batches after that number. Raises TimeoutError."""
        with self._lock:
            taken = self._taken
            if taken is None or now_ns() - taken[0] > FRESH_NS:
                taken = self._taken = (now_ns(), self._asked.snapshot(True, watching=True))
        return status_of(taken[1], after)
