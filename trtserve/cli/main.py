"""The command `trtserve`: one subcommand for each file of this folder."""

import sys

import typer

from trtserve.cli import (
    build,
    check,
    explain,
    golden,
    infer,
    models,
    output,
    serve,
    timeline,
    token,
    version,
)
from trtserve.cli.connection import securely
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
    serve.serve, build.build, check.check, explain.explain, infer.infer,
    timeline.timeline, token.token, version.version,
):
    app.command()(securely(_command))

_models = typer.Typer()
_models.callback(invoke_without_command=True)(securely(models.models))
_models.command()(securely(models.load, below=True))
_models.command()(securely(models.unload, below=True))
app.add_typer(_models, name="models")

_golden = typer.Typer(
    help="Record golden cases: inputs with the outputs that a model must give.",
    no_args_is_help=True,
)
_golden.command()(securely(golden.record))
app.add_typer(_golden, name="golden")


def main() -> None:
    """Run the command line. Errors that have a cause and a cure are shown without a traceback."""
    try:
        app()
    except (OperatorError, RequestError) as error:
        output.print_error(error)
        sys.exit(1)
