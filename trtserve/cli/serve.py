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


def _flag(panel: str, name: str, text: str) -> Any:
    return typer.Option(
        f"--{name.replace('_', '-')}", help=text, envvar=f"TRTSERVE_{name.upper()}",
        rich_help_panel=panel,
    )


_models = partial(_flag, "Repository and models")
_network = partial(_flag, "Network")
_security = partial(_flag, "Security")
_limits = partial(_flag, "Limits")
_devices = partial(_flag, "Devices and processes")
_stopping = partial(_flag, "Stopping and restarts")
_observing = partial(_flag, "Observability")


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
    model_control_mode: Annotated[str, _models(
        "model_control_mode", "How models come and go while it serves: none (they do not), "
        "explicit (by calls), poll (as the repository's folders do).",
    )] = _DEFAULTS.model_control_mode,
    load_models: Annotated[str, _models(
        "load_models", "With explicit: the models to load at the start, with commas between; "
        "* is all.")] = _DEFAULTS.load_models,
    repository_poll_seconds: Annotated[float, _models(
        "repository_poll_seconds", "With poll: how often the repository is looked at where no "
        "event tells of a change.")] = _DEFAULTS.repository_poll_seconds,
    repository_settle_seconds: Annotated[float, _models(
        "repository_settle_seconds", "With poll: how long a model's folder must have stayed the "
        "same before it is loaded.")] = _DEFAULTS.repository_settle_seconds,
    allow_config_override: Annotated[bool, _models(
        "allow_config_override", "With explicit: let a load call bring a configuration.",
    )] = _DEFAULTS.allow_config_override,
    allow_file_override: Annotated[bool, _models(
        "allow_file_override", "With explicit: let a load call bring engine files. A plan is a "
        "program.")] = _DEFAULTS.allow_file_override,
    scratch_folder: Annotated[str | None, _models(
        "scratch_folder", "Where what load calls bring is kept, in a new folder that is removed "
        "at the end; none: where temporary files are.")] = _DEFAULTS.scratch_folder,
    host: Annotated[str, _network(
        "host", "Address that gRPC and HTTP listen on.")] = _DEFAULTS.host,
    grpc_port: Annotated[int, _network(
        "grpc_port", "Port of gRPC. 0 picks a free one.")] = _DEFAULTS.grpc_port,
    http_host: Annotated[str | None, _network(
        "http_host", "Address that HTTP listens on, where it is another one than gRPC's.",
    )] = _DEFAULTS.http_host,
    http_port: Annotated[int, _network(
        "http_port", "Port of metrics, probes and the status page. 0 picks a free one.",
    )] = _DEFAULTS.http_port,
    socket: Annotated[str | None, _network(
        "socket", "A Unix socket that serves gRPC too.")] = _DEFAULTS.socket,
    socket_mode: Annotated[str, _network(
        "socket_mode", "Who may connect to the socket, as an octal file mode; by default the "
        "daemon's own user only.")] = _DEFAULTS.socket_mode,
    socket_group: Annotated[str | None, _network(
        "socket_group", "The group that the socket is given to, for a mode such as 0660.",
    )] = _DEFAULTS.socket_group,
    socket_users: Annotated[str | None, _network(
        "socket_users", "Other users who may connect to the socket: names or numbers with commas "
        "between.")] = _DEFAULTS.socket_users,
    grpc_max_connection_age_seconds: Annotated[float, _network(
        "grpc_max_connection_age_seconds", "Clients have to connect again after this time, and so "
        "find new servers. 0: never.")] = _DEFAULTS.grpc_max_connection_age_seconds,
    grpc_max_connection_age_grace_seconds: Annotated[float, _network(
        "grpc_max_connection_age_grace_seconds", "How long calls that are open then may take to "
        "finish. 0: as long as they like.",
    )] = _DEFAULTS.grpc_max_connection_age_grace_seconds,
    tls_certificate: Annotated[str | None, _security(
        "tls_certificate", "A PEM file with the server's certificate: gRPC's port speaks TLS. "
        "Read again when it changes.")] = _DEFAULTS.tls_certificate,
    tls_key: Annotated[str | None, _security(
        "tls_key", "A PEM file with its private key.")] = _DEFAULTS.tls_key,
    tls_client_ca: Annotated[str | None, _security(
        "tls_client_ca", "A PEM file with the certificates that sign clients' ones: clients then "
        "need one.")] = _DEFAULTS.tls_client_ca,
    http_tls: Annotated[bool, _security(
        "http_tls", "TLS on the HTTP port too, with the same certificate.",
    )] = _DEFAULTS.http_tls,
    http_details_for_all: Annotated[bool, _security(
        "http_details_for_all",
        "Show those who ask HTTP from other machines what those on this machine see.",
    )] = _DEFAULTS.http_details_for_all,
    access_file: Annotated[str | None, _security(
        "access_file", "A file that says who may call what: YAML, or TOML if its name ends so. "
        "`trtserve token` makes tokens for it.")] = _DEFAULTS.access_file,
    control_on_tcp: Annotated[bool, _security(
        "control_on_tcp", "Take calls that load and unload models on gRPC's port too, and not on "
        "the Unix socket only. Whoever may load a model may run a program.",
    )] = _DEFAULTS.control_on_tcp,
    plan_hashes: Annotated[str | None, _security(
        "plan_hashes", "A file with the SHA-256 hashes of the only plans to load, as sha256sum "
        "prints them.")] = _DEFAULTS.plan_hashes,
    allow_writable_plans: Annotated[bool, _security(
        "allow_writable_plans", "Load TensorRT plans that other users can write too. A plan is "
        "a program.")] = _DEFAULTS.allow_writable_plans,
    allow_engine_host_code: Annotated[bool, _security(
        "allow_engine_host_code", "Load version-compatible plans, which carry code for the "
        "host's processor.")] = _DEFAULTS.allow_engine_host_code,
    max_message_bytes: Annotated[int, _limits(
        "max_message_bytes", "The largest gRPC message taken or sent.",
    )] = _DEFAULTS.max_message_bytes,
    arena_bytes: Annotated[int, _limits(
        "arena_bytes", "Shared memory of one process for tensors in flight; taken only when "
        "touched.")] = _DEFAULTS.arena_bytes,
    max_in_flight: Annotated[int, _limits(
        "max_in_flight", "Requests in flight in one front end; more are refused at once.",
    )] = _DEFAULTS.max_in_flight,
    max_queue_size: Annotated[int, _limits(
        "max_queue_size", "Requests waiting for one version of a model, where its "
        "configuration does not say.")] = _DEFAULTS.max_queue_size,
    grpc_max_connections: Annotated[int, _limits(
        "grpc_max_connections", "Connections that one front end holds open; more are refused.",
    )] = _DEFAULTS.grpc_max_connections,
    devices: Annotated[str, _devices(
        "devices", "Where models run: cpu, cuda:0 and so on with commas between; all; or auto, "
        "which is every CUDA device, else the CPU.")] = _DEFAULTS.devices,
    lanes: Annotated[int, _devices(
        "lanes", "Batches that may be on a device at once. 0: the device's default.",
    )] = _DEFAULTS.lanes,
    front_ends: Annotated[int, _devices(
        "front_ends", "Processes that speak gRPC. 0: chosen by the cores and the devices.",
    )] = _DEFAULTS.front_ends,
    drain_delay_seconds: Annotated[float, _stopping(
        "drain_delay_seconds", "After SIGTERM: how long to say not-ready while still serving, "
        "so that balancers notice. SIGINT skips it.")] = _DEFAULTS.drain_delay_seconds,
    drain_timeout_seconds: Annotated[float, _stopping(
        "drain_timeout_seconds", "After that: how long requests in flight may take to finish.",
    )] = _DEFAULTS.drain_timeout_seconds,
    replay_patience_seconds: Annotated[float, _stopping(
        "replay_patience_seconds", "How long a request without a deadline waits for a worker "
        "that is being restarted.")] = _DEFAULTS.replay_patience_seconds,
    ready_file: Annotated[str | None, _observing(
        "ready_file", "A file written, as JSON, once the daemon serves: addresses, process ids "
        "and models. Removed when it stops.")] = _DEFAULTS.ready_file,
    log_format: Annotated[str, _observing(
        "log_format", "Log lines on standard error: console or json.")] = _DEFAULTS.log_format,
    log_level: Annotated[str, _observing(
        "log_level", "debug, info, warning or error.")] = _DEFAULTS.log_level,
    otlp_endpoint: Annotated[str | None, _observing(
        "otlp_endpoint", "An OpenTelemetry collector that takes OTLP over HTTP, such as "
        "http://localhost:4318; none: no traces. Needs the extra otel.",
    )] = _DEFAULTS.otlp_endpoint,
    trace_sample_ratio: Annotated[float, _observing(
        "trace_sample_ratio", "The share of requests that is traced, 0 to 1, of those whose "
        "caller does not say.")] = _DEFAULTS.trace_sample_ratio,
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
