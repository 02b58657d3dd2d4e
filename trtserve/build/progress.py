"""How far a build is, and how it is stopped.

TensorRT tells of phases that nest, each with a number of steps. It calls from its own threads,
so everything here may be called from any, and nothing that an observer does may raise.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from trtserve.errors import OperatorError


class BuildCancelled(OperatorError):
    """The operator stopped the build. Nothing was put into the repository."""


class Observer(Protocol):
    """Whoever waits for a build. Its methods may be called from any thread."""

    def note(self, text: str) -> None:
        """Something to know."""

    def begin(self, title: str) -> None:
        """What takes a while now."""

    def advance(self, fraction: float, phase: str) -> None:
        """How much of it is done, 0 to 1, and what goes on."""

    def end(self) -> None:
        """It is over, however it went."""


class Silent:
    """An observer whom nobody listens to."""

    def note(self, text: str) -> None:
        """Nothing."""

    def begin(self, title: str) -> None:
        """Nothing."""

    def advance(self, fraction: float, phase: str) -> None:
        """Nothing."""

    def end(self) -> None:
        """Nothing."""


@dataclass(slots=True)
class _Phase:
    steps: int
    done: int = 0
    children: dict[str, "_Phase"] = field(default_factory=dict)

    def fraction(self) -> float:
        """Finished steps, and what is done of the furthest phase inside the one under way."""
        inside = max((child.fraction() for child in self.children.values()), default=0.0)
        return min(1.0, (self.done + inside) / self.steps) if self.steps > 0 else inside


class Phases:
    """The phases under way, and how far they are. Not for several threads at once."""

    def __init__(self) -> None:
        self._root = _Phase(1)
        self._known: dict[str, _Phase] = {}
        self._open: list[str] = []
        self._furthest = 0.0

    def start(self, name: str, parent: str | None, steps: int) -> None:
        """A phase begins, inside another or as the outermost."""
        above = self._known.get(parent or "", self._root)
        above.children[name] = self._known[name] = _Phase(steps)
        self._open.append(name)

    def step(self, name: str, step: int) -> None:
        """A step, counted from 0, of a phase is done, with all that went on inside it."""
        phase = self._known.get(name)
        if phase is not None:
            phase.done = max(phase.done, step + 1)
            phase.children.clear()

    def finish(self, name: str) -> None:
        """A phase is over."""
        phase = self._known.pop(name, None)
        if phase is not None:
            phase.done = phase.steps = max(1, phase.steps)
            phase.children.clear()
        if name in self._open:
            self._open.remove(name)

    @property
    def fraction(self) -> float:
        """How much of everything is done, 0 to 1. Never goes back."""
        self._furthest = max(self._furthest, self._root.fraction())
        return self._furthest

    @property
    def current(self) -> str:
        """The innermost phase under way."""
        return self._open[-1] if self._open else ""


def monitor(
    module: Any, cancelled: threading.Event, advance: Callable[[float, str], None]
) -> Any:
    """A progress monitor for a builder of that module: it stops the build once `cancelled`."""

    class Monitor(module.IProgressMonitor):  # type: ignore[misc]  # a class of that module's own
        def __init__(self) -> None:
            super().__init__()
            self._phases = Phases()
            self._lock = threading.Lock()

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            with self._lock:
                self._phases.start(phase_name, parent_phase, num_steps)
                advance(self._phases.fraction, self._phases.current)

        def step_complete(self, phase_name: str, step: int) -> bool:
            with self._lock:
                self._phases.step(phase_name, step)
                advance(self._phases.fraction, self._phases.current)
            return not cancelled.is_set()

        def phase_finish(self, phase_name: str) -> None:
            with self._lock:
                self._phases.finish(phase_name)
                advance(self._phases.fraction, self._phases.current)

    return Monitor()
