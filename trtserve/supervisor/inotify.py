"""Linux's file-system events, as hints that something has changed: what, is looked up.

Made with the C library's three functions. Libraries for this report every event with its path,
which nobody needs here, watch trees in ways of their own where links lead out of them, and would
be one more thing in the process that must not die.
"""

import ctypes
import os
from collections.abc import Iterable

_CREATE, _DELETE, _CLOSE_WRITE = 0x100, 0x200, 0x8
_MOVED_FROM, _MOVED_TO, _DELETE_SELF, _MOVE_SELF = 0x40, 0x80, 0x400, 0x800
_EVENTS = (
    _CREATE | _DELETE | _CLOSE_WRITE | _MOVED_FROM | _MOVED_TO | _DELETE_SELF | _MOVE_SELF
)
"""Not each write: a file that is being written is noticed by its size, and by its end."""


class Inotify:
    """Watches on folders. Raises OSError where the system gives none.

    Readable, as its `fileno` tells a selector, when something has happened since `drain`.
    """

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._fd = self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), "inotify")
        self._watches: set[int] = set()

    def fileno(self) -> int:
        """The descriptor to wait for."""
        return int(self._fd)

    def watch(self, folders: Iterable[str]) -> None:
        """Watch just these from now on. What can not be watched is left to looking now and
        then: there may be too many, or they are gone."""
        wanted = {
            watch for folder in folders
            if (watch := self._libc.inotify_add_watch(self._fd, os.fsencode(folder), _EVENTS)) >= 0
        }
        for watch in self._watches - wanted:
            self._libc.inotify_rm_watch(self._fd, watch)
        self._watches = wanted

    def drain(self) -> None:
        """Forget what has happened until now."""
        try:
            while os.read(self._fd, 1 << 16):
                pass
        except BlockingIOError:
            pass

    def close(self) -> None:
        """Watch nothing any more. Twice is harmless."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
