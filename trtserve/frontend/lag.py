"""How late a front end's event loop comes to what is due: what a request waits for besides its
own work, before anything of it is measured."""

import asyncio
from collections.abc import Callable

from trtserve import clock
from trtserve.clock import NS_PER_S
from trtserve.metrics import Histogram

EVERY_SECONDS = 0.1
"""Between two looks: ten in a second cost nothing that could be seen."""


class LoopLag:
    """Sets itself an alarm again and again, and notes how late each one goes off."""

    def __init__(self, seen: Histogram, now: Callable[[], int] = clock.now_ns) -> None:
        self._seen = seen
        self._now = now
        self._due = 0
        self._alarm: asyncio.TimerHandle | None = None

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin."""
        self._due = self._now() + int(EVERY_SECONDS * NS_PER_S)
        self._alarm = loop.call_later(EVERY_SECONDS, self.ring, loop)

    def stop(self) -> None:
        """End. Twice is harmless."""
        if self._alarm is not None:
            self._alarm.cancel()

    def ring(self, loop: asyncio.AbstractEventLoop) -> None:
        """The alarm goes off: note how late, and set the next one."""
        self.stop()
        # The loop counts in milliseconds, and may be early by a part of one.
        self._seen.observe(max(0, self._now() - self._due) / NS_PER_S)
        self.start(loop)
