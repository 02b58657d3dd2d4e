"""Which modules of TensorRT are installed. Imports none of them, and nothing heavy of ours."""

import importlib.util

MODULES = ("tensorrt", "tensorrt_lean", "tensorrt_rtx")
"""The preferred one first, of those that run the same plans."""


def installed_modules() -> tuple[str, ...]:
    """The modules that are installed, of those that run plans."""
    return tuple(name for name in MODULES if importlib.util.find_spec(name) is not None)
