"""Writing plans so that nobody ever sees half of one."""

import errno
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from trtserve.errors import RepositoryError
from trtserve.model.layout import VERSION_NAME
from trtserve.model.plan_manifest import manifest_path

_FILE_MODE, _FOLDER_MODE = 0o644, 0o755
"""Never writable by others, whatever the umask allows: a daemon refuses such plans."""


@dataclass(frozen=True, slots=True)
class FinishedPlan:
    """A plan that lies in a cache, and what goes into the repository for it."""

    file: str
    source: Path
    manifest: bytes


def next_version(model: Path) -> int:
    """The number after the highest version in a model's folder; 1 if there is none."""
    try:
        names = [entry.name for entry in model.iterdir()]
    except FileNotFoundError:
        return 1
    return max((int(name) for name in names if VERSION_NAME.fullmatch(name)), default=0) + 1


def publish(folder: Path, plans: Sequence[FinishedPlan], *, replace: bool) -> list[Path]:
    """Put plans with their manifests into a version's folder.

    A new folder appears with all of them at once. In one that is there, each plan appears or is
    replaced at once. Raises RepositoryError where a plan is there that may not be replaced.
    """
    if not replace:
        refuse_existing(folder, [plan.file for plan in plans])
    try:
        make_folders(folder.parent, _FOLDER_MODE)
        if folder.exists():
            for plan in plans:
                _put(plan, folder)
        else:
            _publish_new(folder, plans)
    except OSError as error:
        raise RepositoryError(
            f"can not be written: {error.strerror}", where=str(error.filename or folder),
            cure="Let this user write there, or make room",
        ) from error
    return [folder / plan.file for plan in plans]


def refuse_existing(folder: Path, files: Sequence[str]) -> None:
    """Raise RepositoryError if one of these files is in the folder."""
    there = [file for file in files if (folder / file).exists()]
    if there:
        raise RepositoryError(
            f"{', '.join(there)} {'is' if len(there) == 1 else 'are'} there already",
            where=str(folder), cure="Replace with --force, or build another --version",
        )


def make_folders(folder: Path, mode: int) -> None:
    """Make a folder and those above it that are missing, all with that mode. Raises OSError."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    for path in reversed(missing):
        path.mkdir(mode, exist_ok=True)
    if not folder.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder))


def write_whole(path: Path, data: bytes | memoryview) -> None:
    """Write a file that appears, or is replaced, only when all of it is on the disk."""
    with _replacing(path) as temporary, _create(temporary) as descriptor:
        view = memoryview(data).cast("B")
        while view:
            view = view[os.write(descriptor, view):]
        os.fsync(descriptor)


def link_whole(source: Path, path: Path) -> None:
    """Give a file another name, or copy it where that can not be. It appears whole.

    One inode for both saves the disk a second copy. Plans are never written in place, only
    replaced, so neither name can change what the other shows.
    """
    with _replacing(path) as temporary:
        try:
            os.link(source, temporary)
        except OSError:  # another file system, or one without links
            shutil.copyfile(source, temporary)
            temporary.chmod(_FILE_MODE)
            with temporary.open("rb") as copied:
                os.fsync(copied.fileno())


def _put(plan: FinishedPlan, folder: Path) -> None:
    # The manifest first: no plan is ever seen without one.
    write_whole(manifest_path(folder / plan.file), plan.manifest)
    link_whole(plan.source, folder / plan.file)


def _publish_new(folder: Path, plans: Sequence[FinishedPlan]) -> None:
    # Names that begin with a dot are passed over in a repository.
    staging = folder.with_name(f".{folder.name}.{os.getpid()}")
    shutil.rmtree(staging, ignore_errors=True)
    try:
        staging.mkdir(mode=_FOLDER_MODE)
        for plan in plans:
            _put(plan, staging)
        staging.rename(folder)
        _sync_folder(folder.parent)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise


@contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """A temporary name beside the path, which becomes the path if nothing goes wrong."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    try:
        yield temporary
        temporary.replace(path)
        _sync_folder(path.parent)
    finally:
        # Left over by a failure, and by a rename between two names of one inode.
        temporary.unlink(missing_ok=True)


@contextmanager
def _create(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _FILE_MODE)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
