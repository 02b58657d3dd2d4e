"""A value that is read from files, and read again when they change; a bad change keeps the old."""

import logging
import os
import threading
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from trtserve import clock
from trtserve.clock import NS_PER_MS, NS_PER_S
from trtserve.errors import ConfigurationError, OperatorError

_log = logging.getLogger(__name__)

T = TypeVar("T")

Signature = tuple[tuple[int, int, int, int] | None, ...]
"""What tells one state of the files from another: device, inode, size and time of each."""

SETTLE_NS = 500 * NS_PER_MS
"""How long a file that is written in place must stay the same: half of an access file may be a
good one that lets more in. A file that takes another's place is whole."""

RETRY_NS = 30 * NS_PER_S
"""Before files that could not be used are tried again though they are the same: a certificate
may come into force, and a process may have had no memory or files left."""


class Watched(Generic[T]):
    """What `read` made of some files when it last could. Any thread may look.

    The constructor reads for the first time; where that fails it takes `last`, what another
    process has kept, and without it raises what `read` raises. Nothing watches in the background:
    `look` compares the files' states, some microseconds for each.
    """

    def __init__(
        self, name: str, paths: Sequence[str], read: Callable[[], T], last: T | None = None,
        now: Callable[[], int] = clock.now_ns,
    ) -> None:
        self.name = name
        self.failures = 0
        self._paths = tuple(paths)
        self._read = read
        self._now = now
        self._lock = threading.Lock()
        self._problem: str | None = None
        self._tried_ns = now()
        self._waiting: tuple[Signature, int] = (), 0
        # Before reading: what changes meanwhile is then seen as a change by the next look.
        self._signature = signature(self._paths)
        try:
            self.value = read()
        except OperatorError as error:
            if last is None:
                raise
            self.value = last
            self._failed(error)

    def look(self) -> bool:
        """Read again if the files have changed. Returns whether there is a new value.

        Files that can not be used count as a failure and are logged once; the value stays.
        """
        if signature(self._paths) == self._signature and self._problem is None:
            return False
        with self._lock:
            now, found = self._now(), signature(self._paths)
            if found == self._signature:
                due = self._problem is not None and now - self._tried_ns >= RETRY_NS
            else:
                due = self._settled(found, now)
            return due and self._take(found, now)

    def _settled(self, found: Signature, now: int) -> bool:
        """Whether nobody can be in the midst of writing."""
        in_place = any(
            old is not None and new is not None and old != new and old[:2] == new[:2]
            for old, new in zip(self._signature, found, strict=True)
        )
        if in_place and found != self._waiting[0]:
            self._waiting = found, now
        return not in_place or now - self._waiting[1] >= SETTLE_NS

    def _take(self, found: Signature, now: int) -> bool:
        if found != self._signature:
            self._problem = None
        self._signature, self._tried_ns = found, now
        try:
            self.value = self._read()
        except (OperatorError, OSError) as error:
            self._failed(error)
            return False
        self._problem = None
        _log.info("the %s has changed and is in force", self.name)
        return True

    def _failed(self, error: Exception) -> None:
        if str(error) != self._problem:
            self.failures += 1
            _log.error("the changed %s is not used, the old one stays: %s", self.name, error)
        self._problem = str(error)


def signature(paths: Sequence[str]) -> Signature:
    """The files' states, through links; None for one that is not there."""
    return tuple(map(_state, paths))


def _state(path: str) -> tuple[int, int, int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def read_file(path: str, setting: str, limit: int) -> bytes:
    """A file's bytes. Raises ConfigurationError that names the setting."""
    try:
        with open(path, "rb") as file:
            data = file.read(limit + 1)
    except OSError as error:
        raise ConfigurationError(
            f"{path} can not be read: {os.strerror(error.errno or 0)}", where=setting,
            cure="Give the path of a file that the daemon's user may read",
        ) from error
    if len(data) > limit:
        raise ConfigurationError(
            f"{path} is larger than {limit} bytes", where=setting, cure="Give the right file"
        )
    return data
