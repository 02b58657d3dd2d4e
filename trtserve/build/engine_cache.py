"""Plans that were built before: the same build again is a look into a folder.

    FOLDER/engines/KEY.json        the manifest of the plan
    FOLDER/engines/SHA256.plan     the plan, under its own hash
    FOLDER/preparations/KEY.json   what came of a request before anything was built

A key is a hash over everything that has a say in it. Nothing here is ever removed: the folder
may be emptied at any time.
"""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from trtserve.build.plan_files import make_folders, write_whole
from trtserve.errors import ConfigurationError, ModelLoadError
from trtserve.model.plan_manifest import (
    PlanGpu,
    PlanManifest,
    PlanOptions,
    PlanProfile,
    decode_manifest,
    encode_manifest,
)
from trtserve.model.plan_safety import places, writable_by_others, writable_cure

_KEY_FORMAT = 1
"""Raised when the same key would stand for another plan than before."""

_ENGINES, _PREPARATIONS = "engines", "preparations"


class PlanIdentity(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that has a say in a plan.

    `onnx_sha256` is that of the file as it came; `fix` and `precision` are what is done to it,
    by the libraries in `versions`. `gpu` is None where plans are not for one GPU.
    """

    onnx_sha256: str
    fix: bool
    precision: str
    profiles: tuple[PlanProfile, ...]
    options: PlanOptions
    module: str
    module_version: str
    versions: Mapping[str, str]
    gpu: PlanGpu | None

    @property
    def key(self) -> str:
        """The name of the plan in the cache."""
        # The driver is not in it: plans run with newer ones, and it chooses nothing.
        gpu = (self.gpu.name, self.gpu.compute_capability) if self.gpu else None
        # The names of profiles do not reach the plan; their order does.
        shapes = [profile.shapes for profile in self.profiles]
        rest = msgspec.structs.replace(self, gpu=None, profiles=())
        text = msgspec.json.encode((_KEY_FORMAT, rest, gpu, shapes), order="sorted")
        return hashlib.sha256(text).hexdigest()


@dataclass(frozen=True, slots=True)
class CachedPlan:
    """A plan in the cache. `hit`: it was there before."""

    path: Path
    manifest: PlanManifest
    hit: bool = False


class EngineCache:
    """Such a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def open(self) -> None:
        """Make the folder, and refuse one that others can write: what lies in it is run later.

        Raises ConfigurationError.
        """
        try:
            found = []
            for name in (_ENGINES, _PREPARATIONS):
                make_folders(self.folder / name, 0o700)
                found += places(self.folder / name)
            found = list(dict.fromkeys(found))
        except OSError as error:
            raise ConfigurationError(
                f"can not be used: {error.strerror}", where=f"cache {self.folder}",
                cure="Name another folder with --cache",
            ) from error
        problems = writable_by_others(found, os.getuid())
        if problems:
            raise ConfigurationError(
                "; ".join(problems), where=f"cache {self.folder}",
                cure=f"{writable_cure(found, os.getuid()).partition(';')[0]}; or name another "
                     "folder with --cache",
            )

    def get(self, key: str) -> CachedPlan | None:
        """The plan of that key, if it is there and whole."""
        path = self._manifest_path(key)
        try:
            manifest = decode_manifest(path.read_bytes(), str(path))
            plan = self._plan_path(manifest.plan_sha256)
            if file_sha256(plan) != manifest.plan_sha256:
                return None
        except (OSError, ModelLoadError):  # half of it is gone, or it is damaged: build it again
            return None
        return CachedPlan(plan, manifest, hit=True)

    def put(self, key: str, plan: bytes | memoryview, manifest: PlanManifest) -> CachedPlan:
        """Keep a plan. Raises ConfigurationError where that can not be."""
        path = self._plan_path(manifest.plan_sha256)
        try:
            write_whole(path, plan)
            write_whole(self._manifest_path(key), encode_manifest(manifest))
        except OSError as error:
            raise ConfigurationError(
                f"can not be written: {error.strerror}", where=f"cache {self.folder}",
                cure="Make room, or name another folder with --cache",
            ) from error
        return CachedPlan(path, manifest)

    def get_preparation(self, key: str) -> bytes:
        """What was put under that key; empty if there is nothing."""
        try:
            return self._preparation_path(key).read_bytes()
        except OSError:
            return b""

    def put_preparation(self, key: str, data: bytes) -> None:
        """Keep what came of a request, if that can be: nothing hangs on it."""
        try:
            write_whole(self._preparation_path(key), data)
        except OSError:
            pass

    def _manifest_path(self, key: str) -> Path:
        return self.folder / _ENGINES / f"{key}.json"

    def _plan_path(self, sha256: str) -> Path:
        return self.folder / _ENGINES / f"{sha256}.plan"

    def _preparation_path(self, key: str) -> Path:
        return self.folder / _PREPARATIONS / f"{key}.json"


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file's contents. Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
