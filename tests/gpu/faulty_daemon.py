"""`python -m tests.gpu.faulty_daemon serve REPOSITORY ...`: the daemon with the faulty worker."""

import functools

import typer

from tests.gpu import faulty_worker
from trtserve.cli import serve as command
from trtserve.cli.devices import decide
from trtserve.cli.report import report
from trtserve.supervisor.role import Targets
from trtserve.supervisor.run import run

TARGETS = Targets(worker=f"{faulty_worker.__name__}:main")


@functools.wraps(command.serve)
def serve(context: typer.Context, **_: object) -> None:
    in_force, choice = decide(command.settings(context))
    run(in_force, functools.partial(report, choice), TARGETS)


def main() -> None:
    app = typer.Typer()
    app.callback()(lambda: None)
    app.command()(serve)
    app()


if __name__ == "__main__":
    main()
