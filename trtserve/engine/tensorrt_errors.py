"""What TensorRT says, and what it means for the operator.

Its calls fail by returning None or False; why is only in what they log, in the calling thread.
"""

import logging
import re
import threading
from collections import deque
from dataclasses import dataclass
from functools import cache
from typing import Any, Protocol

from trtserve.device.interface import Device
from trtserve.errors import DeviceError, ExecutionFailed, ModelLoadError, TrtserveError
from trtserve.model.plan_safety import HOST_CODE_CURE

log = logging.getLogger(__name__)

_KEPT = 64
"""Messages of a thread that are kept until it asks why a call failed; and warnings that are shown
in the life of the process."""

_SHOWN = 3
"""More messages of one failure only repeat it."""

_MAX_LENGTH = 500
"""Characters of a reason: enough for every message seen, and safe in a gRPC status."""

_PLACE = re.compile(r"\s*In \w+ at /\S+:\d+\s*")
"""The place in TensorRT's own sources, which most messages have."""

_ECHO = re.compile(r"^\[checkMacros\.cpp::catchCudaError")
"""What is said again after every failure where CUDA does not work."""

_SHORTAGE = re.compile(
    r"cudaError 2\b|[Oo]ut ?of ?[Mm]emory|OutOfMemory|could not be allocated"
    r"|[Ii]nsufficient memory"
)

_CAUSES = (
    # What the messages contain, what to say first, what to do; empty: build it again.
    (
        r"magicTag|[Mm]agic tag|empty memory buffer|bufferSize >=|header\.size",
        "not a plan of this runtime, or only a part of one", "",
    ),
    (
        r"library version|serialization version|[Vv]ersion tag|version mismatch",
        "it was built with another version", "",
    ),
    (
        r"incompatible device|compute capability|expecting compute|UNSUPPORTED_CC",
        "it was built for another GPU", "",
    ),
    (
        r"[Pp]lugin",
        "it needs a plugin that is not here",
        "Plugins of one's own are not loaded: export the model without it and build it again",
    ),
    (
        r"[Hh]ost code|host executable|host_code_allowed|HostCodeAllowed",
        "it carries code for this machine's processor, which is not allowed", HOST_CODE_CURE,
    ),
    (
        r"cudaError 35|CUDA initialization failure|no CUDA-capable device",
        "CUDA does not work here", "Check that nvidia-smi works here, and the driver's version",
    ),
)


class MessageLog(Protocol):
    """A logger that TensorRT takes, which keeps the errors of each thread."""

    def take(self) -> list[str]:
        """The calling thread's errors since it last asked, the oldest first."""


@cache
def message_log(module: Any, title: str) -> Any:
    """The `MessageLog` of that module, whose warnings go into the daemon's log, each once and
    only the first `_KEPT` of them.

    There is one for each module, and it is never freed: TensorRT tells everything to the first
    that it is given, through a plain pointer, which outlives the runtime that it came with.
    """

    class Log(module.ILogger):  # type: ignore[misc]  # a class of that module's own
        def __init__(self) -> None:
            module.ILogger.__init__(self)
            self._said: dict[int, deque[str]] = {}
            self._warned: set[str] = set()
            self._silent = False
            self._errors = (module.ILogger.INTERNAL_ERROR, module.ILogger.ERROR)

        def log(self, severity: Any, msg: str) -> None:
            if severity in self._errors:
                mine = self._said.setdefault(threading.get_ident(), deque(maxlen=_KEPT))
                mine.append(msg)
            elif severity == module.ILogger.WARNING and msg not in self._warned:
                # What comes with numbers in it is never the same twice.
                if len(self._warned) < _KEPT:
                    self._warned.add(msg)
                    log.warning("%s: %s", title, msg)
                elif not self._silent:
                    self._silent = True
                    log.warning("%s has more warnings, which are not shown", title)

        def take(self) -> list[str]:
            return list(self._said.pop(threading.get_ident(), ()))

    return Log()


def readable(messages: list[str]) -> str:
    """The reason that messages tell, without what only TensorRT's authors need."""
    told = [
        " ".join(_PLACE.sub("", text).split()).rstrip(".")
        for text in messages if not _ECHO.match(text)
    ] or messages
    text = "; ".join(list(dict.fromkeys(told))[-_SHOWN:])
    return text if len(text) <= _MAX_LENGTH else text[: _MAX_LENGTH - 3] + "..."


@dataclass(frozen=True, slots=True)
class PlanErrors:
    """What the failures of one plan mean. `title` names the runtime and its version; `rebuild`
    says how to build the plan again."""

    path: str
    title: str
    device: Device
    log: MessageLog
    rebuild: str

    def refused(self, problem: str, cure: str = "") -> ModelLoadError:
        """The error of a plan that is not served, whatever TensorRT says of it."""
        return ModelLoadError(problem, where=self.path, cure=cure or self.rebuild)

    def load(self, doing: str) -> TrtserveError:
        """Why the plan was not loaded, or has no context. `doing` says what failed."""
        messages = self.log.take()
        try:
            memory = self.device.memory()
        except DeviceError as lost:
            return lost
        reason, text = readable(messages) or "it does not say why", "\n".join(messages)
        if _SHORTAGE.search(text):
            left = f"; {memory[0]:,} of {memory[1]:,} bytes are free" if memory else ""
            return ModelLoadError(
                f"{self.device.name} has too little memory for it{left}: {reason}",
                where=self.path,
                cure="Set fewer lanes, build it with smaller largest shapes, or serve fewer models",
            )
        for pattern, summary, cure in _CAUSES:
            if re.search(pattern, text):
                return self.refused(f"{summary}: {self.title} says: {reason}", cure)
        return self.refused(f"{doing}: {self.title} says: {reason}")

    def run(self, doing: str) -> ExecutionFailed:
        """Why a run failed. Whether the device is lost, its lane finds out by waiting for it."""
        reason = readable(self.log.take())
        return ExecutionFailed(f"{doing}: {self.title} says: {reason or 'nothing about it'}")
