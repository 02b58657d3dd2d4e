"""What all commands print: tables for people, JSON for programs, one shape of error."""

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from trtserve.errors import OperatorError, RequestError

WIDE = 160
"""Columns where the output is no terminal: a log or a pipe has room, and needs whole words."""


def console(*, stderr: bool = False) -> Console:
    """Standard output or error as it is now, in colour only on a terminal."""
    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else WIDE
    return Console(stderr=stderr, width=width, highlight=False, soft_wrap=False)


def print_json(value: object) -> None:
    """A value (msgspec structs and dataclasses too) as indented JSON on standard output."""
    text = msgspec.json.format(msgspec.json.encode(value), indent=2)
    sys.stdout.write(text.decode() + "\n")


def print_table(
    columns: Sequence[str], rows: Iterable[Sequence[object]], *, title: str | None = None
) -> None:
    """A table on standard output. Cells are plain text: brackets in them mean nothing."""
    table = Table(title=title, title_justify="left", title_style="bold", box=None,
                  pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    for column in columns:
        table.add_column(escape(column), overflow="fold")
    for row in rows:
        table.add_row(*(escape(str(cell)) for cell in row))
    console().print(table)


def shown_path(path: Path) -> str:
    """A path as one would type it: relative where it lies under the current folder."""
    try:
        return str(path.relative_to(Path.cwd()))
    except (OSError, ValueError):
        return str(path)


def print_line(text: str = "") -> None:
    """A line of plain text on standard output, wrapped as the terminal does it."""
    console().print(text, markup=False, soft_wrap=True)


def print_error(error: OperatorError | RequestError) -> None:
    """What is wrong, where, and how to mend it, on standard error."""
    out = console(stderr=True)
    if isinstance(error, OperatorError):
        where = f"{escape(error.where)}: " if error.where else ""
        out.print(f"[bold red]error:[/] {where}{escape(error.problem)}", soft_wrap=True)
        if error.cure:
            out.print(f"[bold]cure:[/]  {escape(error.cure)}", soft_wrap=True)
    else:
        out.print(f"[bold red]error:[/] {escape(str(error))}", soft_wrap=True)
