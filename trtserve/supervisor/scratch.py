"""Folders for what load calls bring: a configuration, or whole engine files.

Every load has a folder of its own in one that belongs to this user and this daemon alone. Names
are checked where they come from and again here, and files are opened relative to their folder's
descriptor, never through a link and never over anything: no name leads out.

The daemon has its folder locked for as long as it lives. So one that is killed leaves a folder
without a lock, and the next daemon that keeps its own in the same place removes it.
"""

import fcntl
import logging
import os
import shutil
import tempfile
from collections.abc import Sequence

from trtserve.errors import ConfigurationError, ProtocolError
from trtserve.model.layout import CONFIGURATION_NAMES, version_file

_log = logging.getLogger(__name__)

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC

_PREFIX = "trtserve-scratch-"

File = tuple[str, int, int]
"""A path in the model's folder, and where its content lies in a descriptor's memory: offset and
size in bytes."""


class Scratch:
    """A context manager. The folder is made when first needed, inside `parent` (None: where
    temporary files are), and removed at the end with all that is in it. What dead daemons of
    this user left there goes when it is made."""

    def __init__(self, parent: str | None) -> None:
        self._parent = parent
        self._path = ""
        self._home = -1
        self._made = 0

    def check(self) -> None:
        """Make the folder now. Raises ConfigurationError where that is not possible."""
        try:
            self._open()
        except OSError as error:
            raise ConfigurationError(
                f"{self._parent or tempfile.gettempdir()} can not be written: {error.strerror}",
                where="scratch_folder", cure="Name a folder that this user can write",
            ) from error

    def place(
        self, source: str | None, configuration: str, files: Sequence[File], fd: int | None
    ) -> str:
        """A new folder for a model: its path.

        With files it holds those; without, links to the versions in `source`. `configuration`,
        if any, is its config.pbtxt. Raises OSError, and leaves nothing then.
        """
        self._open()
        self._made += 1
        name = str(self._made)
        os.mkdir(name, 0o700, dir_fd=self._home)
        folder = os.open(name, _FOLDER, dir_fd=self._home)
        try:
            if files and fd is not None:
                for path, offset, size in files:
                    self._write(folder, path, fd, offset, size)
            elif source is not None:
                _link(folder, source, keep_configuration=not configuration)
            if configuration:
                with os.fdopen(_new(folder, "config.pbtxt"), "w", encoding="utf-8") as file:
                    file.write(configuration)
        except BaseException:
            self._remove(name)
            raise
        finally:
            os.close(folder)
        return os.path.join(self._path, name)

    def remove(self, path: str | None) -> None:
        """Remove a folder that `place` made; any other path is left alone."""
        if path is not None and self._path and os.path.dirname(path) == self._path:
            self._remove(os.path.basename(path))

    def __enter__(self) -> "Scratch":
        return self

    def __exit__(self, *_: object) -> None:
        if self._home >= 0:
            os.close(self._home)
            self._home = -1
            shutil.rmtree(self._path, ignore_errors=True)

    def _open(self) -> None:
        if self._home < 0:
            if self._parent is not None:
                os.makedirs(self._parent, mode=0o700, exist_ok=True)
            _remove_leftovers(self._parent or tempfile.gettempdir())
            while self._home < 0:
                # A new name that only we may enter: nothing of anybody else's can lie there.
                path = tempfile.mkdtemp(prefix=_PREFIX, dir=self._parent)
                self._path, self._home = os.path.abspath(path), _claim(path)

    def _remove(self, name: str) -> None:
        try:
            shutil.rmtree(name, dir_fd=self._home)
        except OSError as error:
            _log.warning("a folder of scratch files can not be removed: %s", error)

    def _write(self, folder: int, path: str, fd: int, offset: int, size: int) -> None:
        """Copy one file into a version's folder."""
        place = version_file(path)
        if place is None or offset < 0 or size < 0 or offset + size > os.fstat(fd).st_size:
            raise ProtocolError(f"a front end sent the file {path!r} ({offset}, {size})")
        version, name = place
        try:
            os.mkdir(version, 0o700, dir_fd=folder)
        except FileExistsError:
            pass
        inner = os.open(version, _FOLDER, dir_fd=folder)
        try:
            target = _new(inner, name)
            try:
                while size:
                    copied = os.sendfile(target, fd, offset, size)
                    if not copied:
                        raise ProtocolError("the memory of a file override is cut off")
                    offset, size = offset + copied, size - copied
            finally:
                os.close(target)
        finally:
            os.close(inner)


def _lock(folder: int) -> bool:
    """Lock a folder until its descriptor is closed. False if another process has locked it.
    Raises OSError where the file system has no locks."""
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _claim(path: str) -> int:
    """The descriptor of a folder that was just made, locked; -1 if a daemon that began just
    then took it for a leftover."""
    try:
        folder = os.open(path, _FOLDER)
    except FileNotFoundError:
        return -1
    try:
        ours = _lock(folder)
    except OSError:
        ours = True  # without locks nobody takes anything for a leftover
    if ours and os.fstat(folder).st_nlink:
        return folder
    os.close(folder)
    return -1


def _remove_leftovers(parent: str) -> None:
    """Remove the folders of this user's daemons that were killed."""
    for name in os.listdir(parent):
        if not name.startswith(_PREFIX):
            continue
        path = os.path.join(parent, name)
        try:
            folder = os.open(path, _FOLDER)
        except OSError:
            continue
        try:
            if os.fstat(folder).st_uid == os.geteuid() and _lock(folder):
                shutil.rmtree(path)
                _log.info("removed %s, which a daemon that was killed had left", path)
        except OSError as error:
            _log.warning("%s may be left by a daemon that was killed: %s", path, error)
        finally:
            os.close(folder)


def _new(folder: int, name: str) -> int:
    return os.open(name, _NEW_FILE, 0o600, dir_fd=folder)


def _link(folder: int, source: str, *, keep_configuration: bool) -> None:
    """Links to all that a model's folder holds, its configuration only if there is no new one."""
    for entry in os.listdir(source):
        if not entry.startswith(".") and (keep_configuration or entry not in CONFIGURATION_NAMES):
            os.symlink(os.path.join(source, entry), entry, dir_fd=folder)
