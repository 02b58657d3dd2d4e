"""`trtserve serve`: run the daemon in the foreground."""

import logging
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from trtserve import log
from trtserve.cli import settings_file
from trtserve.cli.devices import decide
from trtserve.cli.report import report, report_json
from trtserve.config import Settings
from trtserve.supervisor.run import run

_log = logging.getLogger(__name__)

_DEFAULTS = Settings(repository="")


def _flag(name: str, text: str) -> Any:
    return typer.Option(
        f"--{name.replace('_', '-')}", help=text, envvar=f"TRTSERVE_{name.upper()}"
    )


def _use_file(context: typer.Context, path: Path | None) -> Path | None:
    """Make a file's settings the defaults: weaker than flags and environment."""
    if path is not None and not context.resilient_parsing:
        context.default_map = settings_file.read(path)
    return path


def serve(
    context: typer.Context,
    repository: Annotated[str, typer.Argument(
        help="The model repository: MODEL/VERSION/FILE.", envvar="TRTSERVE_REPOSITORY",
        show_default=False,
    )],
    config: Annotated[Path | None, typer.Option(
        help="A TOML file with any of these settings, under the flags' names with _ for -. "
             "Flags and environment are stronger.",
        envvar="TRTSERVE_CONFIG", is_eager=True, callback=_use_file,
    )] = None,
    host: Annotated[str, _flag(
        "host", "Address that gRPC and HTTP listen on.")] = _DEFAULTS.host,
    grpc_port: Annotated[int, _flag(
        "grpc_port", "Port of gRPC. 0 picks a free one.")] = _DEFAULTS.grpc_port,
    http_port: Annotated[int, _flag(
        "http_port", "Port of metrics, probes and the status page. 0 picks a free one.",
    )] = _DEFAULTS.http_port,
    socket: Annotated[str | None, _flag(
        "socket", "A Unix socket that serves gRPC too.")] = _DEFAULTS.socket,
    front_ends: Annotated[int, _flag(
        "front_ends", "Processes that speak gRPC. 0: chosen by the cores and the devices.",
    )] = _DEFAULTS.front_ends,
    lanes: Annotated[int, _flag(
        "lanes", "Batches that may be on a device at once. 0: the device's default.",
    )] = _DEFAULTS.lanes,
    devices: Annotated[str, _flag(
        "devices", "Where models run: cpu, cuda:0 and so on with commas between; all; or auto, "
        "which is every CUDA device, else the CPU.")] = _DEFAULTS.devices,
    ready_file: Annotated[str | None, _flag(
        "ready_file", "A file written, as JSON, once the daemon serves: addresses, process ids "
        "and models. Removed when it stops.")] = _DEFAULTS.ready_file,
    max_message_bytes: Annotated[int, _flag(
        "max_message_bytes", "The largest gRPC message taken or sent.",
    )] = _DEFAULTS.max_message_bytes,
    arena_bytes: Annotated[int, _flag(
        "arena_bytes", "Shared memory of one process for tensors in flight; taken only when "
        "touched.")] = _DEFAULTS.arena_bytes,
    max_in_flight: Annotated[int, _flag(
        "max_in_flight", "Requests in flight in one front end; more are refused at once.",
    )] = _DEFAULTS.max_in_flight,
    max_queue_size: Annotated[int, _flag(
        "max_queue_size", "Requests waiting for one version of a model, where its "
        "configuration does not say.")] = _DEFAULTS.max_queue_size,
    drain_delay_seconds: Annotated[float, _flag(
        "drain_delay_seconds", "After SIGTERM: how long to say not-ready while still serving, "
        "so that balancers notice. SIGINT skips it.")] = _DEFAULTS.drain_delay_seconds,
    drain_timeout_seconds: Annotated[float, _flag(
        "drain_timeout_seconds", "After that: how long requests in flight may take to finish.",
    )] = _DEFAULTS.drain_timeout_seconds,
    replay_patience_seconds: Annotated[float, _flag(
        "replay_patience_seconds", "How long a request without a deadline waits for a worker "
        "that is being restarted.")] = _DEFAULTS.replay_patience_seconds,
    allow_writable_plans: Annotated[bool, _flag(
        "allow_writable_plans", "Load TensorRT plans that other users can write too. A plan is "
        "a program.")] = _DEFAULTS.allow_writable_plans,
    allow_engine_host_code: Annotated[bool, _flag(
        "allow_engine_host_code", "Load version-compatible plans, which carry code for the "
        "host's processor.")] = _DEFAULTS.allow_engine_host_code,
    plan_hashes: Annotated[str | None, _flag(
        "plan_hashes", "A file with the SHA-256 hashes of the only plans to load, as sha256sum "
        "prints them.")] = _DEFAULTS.plan_hashes,
    log_format: Annotated[str, _flag(
        "log_format", "Log lines on standard error: console or json.")] = _DEFAULTS.log_format,
    log_level: Annotated[str, _flag(
        "log_level", "debug, info, warning or error.")] = _DEFAULTS.log_level,
    json: Annotated[bool, typer.Option(
        "--json", help="Print the start-up report as JSON.")] = False,
) -> None:
    """Serve a model repository over gRPC until a signal says stop.

    SIGTERM: not ready at once, then the drain delay, then requests in flight finish; exit code
    0. A second signal hurries. Each setting comes from its flag, else its environment variable,
    else the --config file, else its default.
    """
    asked = settings(context)
    log.configure("supervisor", asked.log_level, asked.log_format)
    in_force, choice = decide(asked)
    _log.info("devices %s", choice.line)
    run(in_force, partial(report_json if json else report, choice))


def settings(context: typer.Context) -> Settings:
    """The settings that a parsed command line amounts to. Raises ConfigurationError."""
    values = {name: context.params[name] for name in Settings.__struct_fields__}
    return msgspec.convert(values, Settings).check()
