"""The command `trtserve`: one subcommand for each file of this folder."""

import sys

import typer

from trtserve.cli import build, check, explain, infer, models, output, serve, timeline, version
from trtserve.errors import OperatorError, RequestError

app = typer.Typer(
    name="trtserve",
    help="A gRPC multi-model serving daemon.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for _command in (
    serve.serve, build.build, check.check, explain.explain, models.models, infer.infer,
    timeline.timeline, version.version,
):
    app.command()(_command)


def main() -> None:
    """Run the command line. Errors that have a cause and a cure are shown without a traceback."""
    try:
        app()
    except (OperatorError, RequestError) as error:
        output.print_error(error)
        sys.exit(1)
