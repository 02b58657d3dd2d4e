"""`trtserve models`: what a running daemon serves, and changing it."""

import json as json_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from trtserve.cli.connection import DEFAULT_ADDRESS, Address, Json, connect
from trtserve.cli.names import names_of
from trtserve.cli.output import print_json, print_line, print_table
from trtserve.errors import ConfigurationError

if TYPE_CHECKING:
    from trtserve.client import Client, ModelInfo, ModelStatus

Model: TypeAlias = Annotated[str, typer.Argument(help="The model's name.", show_default=False)]


def models(
    context: typer.Context, address: Address = DEFAULT_ADDRESS, json: Json = False
) -> None:
    """List the models of a running daemon: states, and what they take and give.

    With a command: load or unload one of them, in a daemon that runs with --model-control-mode
    explicit.
    """
    if context.invoked_subcommand is not None:
        context.obj = address, json
        return
    with connect(address) as client:
        listed = [
            (status, _info(client, status), names_of(client, status))
            for status in client.models()
        ]
    if json:
        print_json([
            {"name": s.name, "version": s.version, "state": s.state, "reason": s.reason,
             "labels": names.labels, "weight": names.weight,
             "inputs": info.inputs if info else (), "outputs": info.outputs if info else ()}
            for s, info, names in listed
        ])
        return
    print_table(
        ("model", "version", "names", "state", "reason", "inputs", "outputs"),
        [
            (s.name, s.version, names.text, s.state, s.reason,
             "\n".join(map(str, info.inputs)) if info else "",
             "\n".join(map(str, info.outputs)) if info else "")
            for s, info, names in listed
        ],
    )
    if not listed:
        print_line("no models")


def load(
    context: typer.Context,
    model: Model,
    config: Annotated[Path | None, typer.Option(
        help="A configuration in place of the model's own: a file of JSON, as "
             "RepositoryModelLoad takes it. The daemon needs --allow-config-override.",
    )] = None,
    address: Address = "",
    json: Json = False,
) -> None:
    """Load a model from the daemon's repository, or load it again.

    What serves goes on until the new is ready everywhere; if it does not load, nothing changes.
    """
    configuration = _configuration(config) if config is not None else None
    at, as_json = _inherited(context, address, json)
    with connect(at) as client:
        client.load(model, config=configuration)
        statuses = [status for status in client.models() if status.name == model]
    _show(model, statuses, as_json)


def unload(
    context: typer.Context, model: Model, address: Address = "", json: Json = False
) -> None:
    """Unload a model. Requests that it has are still answered."""
    at, as_json = _inherited(context, address, json)
    with connect(at) as client:
        client.unload(model)
        statuses = [status for status in client.models() if status.name == model]
    _show(model, statuses, as_json)


def _inherited(context: typer.Context, address: str, json: bool) -> tuple[str, bool]:
    """Address and format, given after the command's name or before it."""
    before_address, before_json = context.obj or (DEFAULT_ADDRESS, False)
    return address or before_address, json or before_json


def _configuration(path: Path) -> str:
    """The JSON in a file. Raises ConfigurationError where it can not be read or is none."""
    try:
        text = path.read_text()
        json_module.loads(text)
    except OSError as error:
        raise ConfigurationError(
            f"it can not be read: {error.strerror}", where=str(path),
            cure="Give --config a file that exists",
        ) from error
    except ValueError as error:
        raise ConfigurationError(
            f"it is not JSON: {error}", where=str(path),
            cure="Write one object of the configuration's fields",
        ) from error
    return text


def _show(model: str, statuses: "list[ModelStatus]", json: bool) -> None:
    """What became of a model."""
    if json:
        print_json([
            {"name": s.name, "version": s.version, "state": s.state, "reason": s.reason}
            for s in statuses
        ])
        return
    print_table(
        ("model", "version", "state", "reason"),
        [(s.name, s.version, s.state, s.reason) for s in statuses],
    )
    if not statuses:
        print_line(f"{model} is not in the repository")


def _info(client: "Client", status: "ModelStatus") -> "ModelInfo | None":
    """What a ready model takes and gives; None where it is not ready (any more)."""
    from trtserve.client import NotFound, Unavailable

    if status.state != "READY":
        return None
    try:
        return client.metadata(status.name, status.version)
    except (NotFound, Unavailable):
        return None
