"""What TensorRT says, and what to do about it.

Its calls fail by returning None or False; the reason is only in what they log.
"""

import re
from collections.abc import Sequence
from typing import Any, Protocol

SHOWN = 3
"""More messages of one failure only repeat it."""

_PLACE = re.compile(r"\s*In \w+ at \S+?:\d+\s*(?=\)?$)")
"""The place in TensorRT's own sources that its messages end with."""

_NOISE = re.compile(r"^\[checkMacros\.cpp::catchCudaError")
"""Without a GPU every failure is followed by this: it is not the reason."""

_CURES = (
    (
        r"Input dimensions with this name",
        "Different dimensions share one name in the model; build with --fix, which gives each "
        "its own",
    ),
    (
        r"no optimization profile has been defined",
        "Give the shapes of every input with --profile, or with --sizes and --batch",
    ),
    (
        r"MIN<=OPT<=MAX|Dimension mismatch for tensor|Invalid optimization profile",
        "Give shapes that fit the model's inputs, each dimension min <= opt <= max",
    ),
    (
        r"cudaError 35|CUDA initialization failure|no CUDA-capable device",
        "Build on a machine with a working GPU driver; TensorRT-RTX builds without one if "
        "--compute-capability names the GPUs, or is left out",
    ),
    (
        r"cudaError 2\b|[Oo]ut ?of ?[Mm]emory|OutOfMemory|insufficient memory",
        "Free memory on the GPU, lower --workspace, or make the largest shapes of the profiles "
        "smaller",
    ),
    (
        r"Could not find any implementation",
        "Raise --workspace, or make the largest shapes of the profiles smaller",
    ),
    (
        r"Unable to load library: libnvinfer_lean",
        "Install the lean runtime of this TensorRT version, or build without "
        "--version-compatible",
    ),
    (
        r"UNSUPPORTED_NODE|plugin creator|No importer registered|[Uu]nsupported",
        "This TensorRT does not take the operator: serve the ONNX file itself, or export the "
        "model without it",
    ),
)


_alive: list[Any] = []
"""TensorRT keeps plain pointers to loggers, such as for its plugins, that outlive the objects which
they were given with."""


class MessageLog(Protocol):
    """A logger that TensorRT takes, which keeps what is worth telling."""

    errors: list[str]
    warnings: list[str]


def message_log(module: Any) -> Any:
    """A `MessageLog` for that module. It is called from any thread, and never freed."""

    class Log(module.ILogger):  # type: ignore[misc]  # a class of that module's own
        def __init__(self) -> None:
            super().__init__()
            self.errors: list[str] = []
            self.warnings: list[str] = []
            self._kept = {
                module.ILogger.INTERNAL_ERROR: self.errors,
                module.ILogger.ERROR: self.errors,
                module.ILogger.WARNING: self.warnings,
            }

        def log(self, severity: Any, msg: str) -> None:
            kept = self._kept.get(severity)
            if kept is not None and msg not in kept:
                kept.append(msg)

    made = Log()
    _alive.append(made)
    return made


def readable(messages: Sequence[str]) -> str:
    """The reason that messages tell, without what only TensorRT's authors need."""
    told = [_PLACE.sub("", text).strip() for text in messages if not _NOISE.match(text)]
    return "; ".join(list(dict.fromkeys(told))[:SHOWN])


def cure(messages: Sequence[str], otherwise: str = "") -> str:
    """What to do about a failure, where it is a known one."""
    text = "\n".join(messages)
    return next((cure for pattern, cure in _CURES if re.search(pattern, text)), otherwise)


def parser_errors(parser: Any) -> list[str]:
    """Why the ONNX parser refused a model: its own list, with the nodes."""
    found = []
    for index in range(parser.num_errors):
        error = parser.get_error(index)
        node = " ".join(filter(None, (error.node_operator(), error.node_name())))
        place = f"node {error.node()} ({node}): " if node else ""
        found.append(f"{place}{error.desc()} [{error.code().name}]")
    return found
