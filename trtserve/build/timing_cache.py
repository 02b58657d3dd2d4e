"""What the builder measured before, kept in one file for each TensorRT version and GPU.

TensorRT times many kernels for each layer. The timing cache remembers what they took, so that
the next build with the same layers, or one with other profiles, is quick and chooses the same.
TensorRT-RTX chooses its kernels when a model is loaded: it has no timings to remember.
"""

import fcntl
import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from trtserve.build.plan_files import make_folders, write_whole
from trtserve.model.plan_manifest import PlanGpu

_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")


def timing_cache_path(folder: Path, module: str, version: str, gpu: PlanGpu) -> Path:
    """The file for a TensorRT version and a GPU."""
    words = (module, version, gpu.name, f"sm{gpu.compute_capability}")
    return folder / "timing" / ("-".join(_UNSAFE.sub("_", word) for word in words) + ".cache")


class TimingCache:
    """One such file. Several builds may use it at once: each adds what it measured."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._attached: Any = None  # a build has a pointer to it

    def attach(self, config: Any) -> bool:
        """Let a build use what was measured before. False: there was nothing that fits."""
        known = self._read()
        self._attached = config.create_timing_cache(known)
        fits = self._attached is not None and config.set_timing_cache(self._attached, False)
        if not fits:
            # Damaged, or another driver's: start afresh, and replace it when this build is done.
            self._attached = config.create_timing_cache(b"")
            config.set_timing_cache(self._attached, False)
        return bool(known and fits)

    def keep(self, config: Any) -> str:
        """Add what a build measured to the file. Returns the file's SHA-256."""
        measured = config.get_timing_cache()
        if measured is None:
            return ""
        with self._locked():
            # Another build may have written since this one read.
            others = config.create_timing_cache(self._read())
            if others is not None:
                measured.combine(others, False)
            data = bytes(measured.serialize())
            write_whole(self.path, data)
        return hashlib.sha256(data).hexdigest()

    def _read(self) -> bytes:
        try:
            return self.path.read_bytes()
        except FileNotFoundError:
            return b""

    @contextmanager
    def _locked(self) -> Iterator[None]:
        make_folders(self.path.parent, 0o700)
        lock = os.open(f"{self.path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)
