"""The Python module of TensorRT that builds: `tensorrt` or `tensorrt_rtx`. One code for both."""

import importlib
import importlib.util
from typing import Any

from trtserve.errors import ConfigurationError, ModelLoadError
from trtserve.model.plan_fit import TITLES

BUILDERS = ("tensorrt", "tensorrt_rtx")
"""Modules with a builder, the preferred one first."""

OLDEST = {"tensorrt": (10, 1), "tensorrt_rtx": (1, 3)}
"""Older ones lack calls that are used here."""

RTX = "tensorrt_rtx"

_EXTRAS = {"tensorrt": "tensorrt", RTX: "rtx"}


def find_module(wanted: str = "") -> Any:
    """Import the builder's module: the wanted one, else the first that is installed.

    Raises ConfigurationError, or ModelLoadError if it is there and does not work.
    """
    if wanted and wanted not in BUILDERS:
        raise ConfigurationError(
            f"'{wanted}' builds no plans", where="module", cure=f"Use {' or '.join(BUILDERS)}"
        )
    names = (wanted,) if wanted else BUILDERS
    name = next((name for name in names if importlib.util.find_spec(name) is not None), None)
    if name is None:
        raise ConfigurationError(
            f"{' and '.join(names)} {'is' if wanted else 'are'} not installed",
            cure=f"pip install 'trtserve[{_EXTRAS[names[-1]]}]'",
        )
    try:
        module = importlib.import_module(name)
    except (ImportError, OSError) as error:
        raise ModelLoadError(
            f"{name} is installed and does not load: {error}",
            cure="Install it again; it needs the libraries that its own packages bring",
        ) from error
    oldest = OLDEST[name]
    if tuple(int(part) for part in module.__version__.split(".")[:2]) < oldest:
        raise ConfigurationError(
            f"{TITLES[name]} {module.__version__} is too old",
            cure=f"Install {'.'.join(map(str, oldest))} or later",
        )
    return module


def module_name(module: Any) -> str:
    """The name that it is imported by."""
    return str(module.__name__)


def is_rtx(module: Any) -> bool:
    """Whether it builds for consumer GPUs in general, and not for the one that is here."""
    return module_name(module) == RTX
