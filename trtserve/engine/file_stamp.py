"""Whether a model's files are still those that were loaded.

An engine that goes on reading its file while it serves would otherwise mix two models: the old
one in the contexts that it has, the new one in those that it makes.
"""

import os
from pathlib import Path

_Identity = tuple[int, int, int, int]
"""Device, inode, bytes, and nanoseconds of the last change."""


class FileStamp:
    """The files in a model's folder as they are now. `path` is the model's own.

    Its neighbours count too, because weights may lie in files of their own. Those that come later
    do not: nothing that was loaded knows them.
    """

    def __init__(self, path: str) -> None:
        self._folder = Path(path).parent
        # Hidden files are drafts of somebody's, which nothing is loaded from.
        self._identities = {
            entry.name: _identity(entry)
            for entry in self._folder.iterdir()
            if not entry.name.startswith(".") and not entry.is_dir()
        }

    def changed(self) -> str:
        """The name of a file that is not what it was; empty if none is."""
        for name, before in self._identities.items():
            if _identity(self._folder / name) != before:
                return name
        return ""


def _identity(path: Path) -> _Identity | None:
    """None where there is no such file, or it can not be looked at."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns
