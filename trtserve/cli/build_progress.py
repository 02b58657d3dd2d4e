"""How a build shows that it goes on: a bar on a terminal, a line now and then elsewhere."""

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn
from rich.progress import TimeElapsedColumn as Elapsed

from trtserve.build.progress import Observer
from trtserve.cli.output import console
from trtserve.clock import NS_PER_S, now_ns

LINE_EVERY_NS = 10 * NS_PER_S
"""Often enough to see in a log that a build is alive."""


@contextmanager
def watching() -> Iterator[Observer]:
    """What suits standard error."""
    if not sys.stderr.isatty():
        yield Lines(_print, now_ns)
        return
    with Progress(
        TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), Elapsed(),
        TextColumn("{task.fields[phase]}", style="dim"),
        console=console(stderr=True), transient=True,
    ) as progress:
        yield Bar(progress)


class Bar:
    """One bar for what is built just now."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._task: TaskID | None = None

    def note(self, text: str) -> None:
        """Print it above the bar."""
        self._progress.console.print(escape(text), soft_wrap=True)

    def begin(self, title: str) -> None:
        """Show a bar."""
        self._task = self._progress.add_task(escape(f"Building {title}"), total=1.0, phase="")

    def advance(self, fraction: float, phase: str) -> None:
        """Move it."""
        if self._task is not None:
            self._progress.update(self._task, completed=fraction, phase=escape(phase))

    def end(self) -> None:
        """Take it away."""
        if self._task is not None:
            self._progress.remove_task(self._task)
            self._task = None


class Lines:
    """A line at the begin, and then one whenever some time has passed."""

    def __init__(self, out: Callable[[str], None], now: Callable[[], int]) -> None:
        self._out = out
        self._now = now
        self._title = ""
        self._next = 0
        self._lock = threading.Lock()

    def note(self, text: str) -> None:
        """Print it."""
        self._out(text)

    def begin(self, title: str) -> None:
        """Print it."""
        self._title, self._next = title, self._now() + LINE_EVERY_NS
        self._out(f"Building {title}")

    def advance(self, fraction: float, phase: str) -> None:
        """Print it if the last line is some time ago."""
        with self._lock:
            now = self._now()
            if now < self._next:
                return
            self._next = now + LINE_EVERY_NS
        self._out(f"{self._title}: {fraction:.0%}, {phase}")

    def end(self) -> None:
        """Nothing: what came of it is told elsewhere."""


def _print(text: str) -> None:
    console(stderr=True).print(text, markup=False, soft_wrap=True)
