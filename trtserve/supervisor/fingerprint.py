"""What a model's folder holds, told by names, sizes, times and inodes: the truth about changes."""

import errno
import fcntl
import os
from collections.abc import Iterator
from dataclasses import dataclass, field

_MAX_DEPTH = 8
"""Folders in folders. Links may lead in circles."""


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """A folder as it is at one moment. Two are equal if nothing was changed between them.

    `entries` are (path, device, inode, size, time of the content's last change) of all files and
    folders, links followed; a folder's size and time are 0, since what it holds is here anyway.
    `folders` are the paths of the folders among them, `changed_ns` is when anything here was last
    changed, in nanoseconds since 1970.
    """

    entries: tuple[tuple[str, int, int, int, int], ...]
    folders: tuple[str, ...] = field(default=(), compare=False)
    changed_ns: int = field(default=0, compare=False)


def fingerprint(folder: str) -> Fingerprint:
    """Look at a folder. What vanishes meanwhile, or can not be looked at, is told by its name."""
    entries: list[tuple[str, int, int, int, int]] = []
    folders: list[str] = []
    changed_ns = 0
    for path, status, is_folder in _walk(folder, 0):
        if status is None:
            entries.append((path, 0, 0, -1, 0))
            continue
        content = (0, 0) if is_folder else (status.st_size, status.st_mtime_ns)
        entries.append((path, status.st_dev, status.st_ino, *content))
        changed_ns = max(changed_ns, status.st_ctime_ns)
        if is_folder:
            folders.append(path)
    return Fingerprint(tuple(entries), tuple(folders), changed_ns)


def being_written(folder: str) -> str:
    """The path of a file in a folder that some process has open for writing; "" if there is none.

    The kernel tells by refusing a lease. It gives leases to a file's owner only, and not on every
    file system: where it tells nothing, the time that a folder stays the same is all there is.
    The caller ignores SIGIO, which comes if somebody opens a file just while it is leased.
    """
    for path, status, is_folder in _walk(folder, 0):
        if status is not None and not is_folder and _has_writer(path):
            return path
    return ""


def _has_writer(path: str) -> bool:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except OSError as error:
        return error.errno == errno.EAGAIN
    finally:
        os.close(fd)
    return False


def _walk(path: str, depth: int) -> Iterator[tuple[str, os.stat_result | None, bool]]:
    """A folder and everything in it that counts, in order: (path, status, whether a folder)."""
    try:
        status = os.stat(path)
        is_folder = os.path.isdir(path)
        names = sorted(os.listdir(path)) if is_folder else []
    except OSError:
        yield path, None, False
        return
    yield path, status, is_folder
    if depth < _MAX_DEPTH:
        for name in names:
            if not name.startswith("."):
                yield from _walk(os.path.join(path, name), depth + 1)
