"""The daemon with another worker or front end: `python -m trtserve.testing.other_daemon serve ...`.

OTHER_WORKER and OTHER_FRONT_END name them, as module:function.
"""

import functools
import os

import typer

from trtserve.cli import serve as command
from trtserve.cli.devices import decide
from trtserve.cli.report import report
from trtserve.supervisor.role import Targets
from trtserve.supervisor.run import run

WORKER, FRONT_END = "OTHER_WORKER", "OTHER_FRONT_END"


def targets() -> Targets:
    """The entry points in force."""
    usual = Targets()
    return Targets(
        front_end=os.environ.get(FRONT_END, usual.front_end),
        worker=os.environ.get(WORKER, usual.worker),
    )


@functools.wraps(command.serve)
def serve(context: typer.Context, **_: object) -> None:
    """As `trtserve serve`."""
    in_force, choice = decide(command.settings(context))
    run(in_force, functools.partial(report, choice), targets())


def main() -> None:
    """Run the command line."""
    app = typer.Typer()
    app.callback()(lambda: None)
    app.command()(serve)
    app()


if __name__ == "__main__":
    main()
