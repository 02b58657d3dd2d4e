import io

import pytest
from rich.console import Console
from rich.progress import Progress, TextColumn

from trtserve.cli.build_progress import LINE_EVERY_NS, Bar, Lines
from trtserve.testing.clock import FakeClock


def test_lines_come_now_and_then():
    clock, lines = FakeClock(), list[str]()
    watcher = Lines(lines.append, clock.now_ns)
    watcher.begin("a.plan")
    watcher.advance(0.1, "early")
    clock.advance(LINE_EVERY_NS)
    watcher.advance(0.333, "Timing graph nodes")
    watcher.advance(0.5, "too soon")
    clock.advance(LINE_EVERY_NS)
    watcher.advance(0.9, "Timing graph nodes")
    watcher.note("beware")
    watcher.end()
    assert lines == [
        "Building a.plan", "a.plan: 33%, Timing graph nodes", "a.plan: 90%, Timing graph nodes",
        "beware",
    ]


@pytest.fixture
def screen():
    return Console(file=io.StringIO(), width=100)


def test_a_bar_shows_what_is_built(screen):
    progress = Progress(
        TextColumn("{task.description} {task.completed} {task.fields[phase]}"), console=screen
    )
    bar = Bar(progress)
    bar.advance(0.5, "nothing is built yet")
    bar.end()
    bar.begin("[bold]a.plan")
    bar.advance(0.25, "[x] phase")
    screen.print(progress.get_renderable())
    bar.note("[red]beware")
    bar.end()
    screen.print(progress.get_renderable())
    text = screen.file.getvalue()
    assert "Building [bold]a.plan 0.25 [x] phase" in text
    assert "[red]beware" in text
    assert text.count("Building") == 1
