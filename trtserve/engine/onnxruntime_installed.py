"""Which ONNX Runtime is installed, read from its files: nothing of it is imported.

The supervisor asks this, which shall stay small and load no runtime.
"""

import re
from importlib.util import find_spec
from pathlib import Path

CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"

_CUDA_LIBRARY = "capi/libonnxruntime_providers_cuda.so"
_VERSION_FILE = "capi/build_and_package_info.py"


def providers(folder: Path | None = None) -> tuple[str, ...]:
    """The providers that models can be served with, by ONNX Runtime's names; () without it."""
    folder = folder or _folder()
    if folder is None:
        return ()
    return (CUDA, CPU) if (folder / _CUDA_LIBRARY).is_file() else (CPU,)


def version(folder: Path | None = None) -> str:
    """ONNX Runtime's version, such as `1.31.1`; empty if it is not installed or does not say."""
    folder = folder or _folder()
    if folder is None or not (folder / _VERSION_FILE).is_file():
        return ""
    found = re.search(r"__version__ = .([\d.]+)", (folder / _VERSION_FILE).read_text())
    return found[1] if found else ""


def _folder() -> Path | None:
    """Where it is installed."""
    spec = find_spec("onnxruntime")
    return Path(spec.origin).parent if spec is not None and spec.origin else None
