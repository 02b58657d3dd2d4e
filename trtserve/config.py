"""The daemon's settings: one frozen value that the supervisor passes to every child."""

import os
import re

import msgspec

from trtserve.errors import ConfigurationError

MIB = 1 << 20

_DEVICE = re.compile(r"cpu|cuda:(0|[1-9][0-9]{0,3})")
"""The name of one device. CUDA's own number follows the colon."""

_URL = re.compile(r"https?://[^/\s]+")


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Everything `trtserve serve` can be told. The field's name is the flag's, the key's in the
    TOML file, and with TRTSERVE_ in front and in capitals the environment variable's.
    """

    repository: str
    host: str = "127.0.0.1"
    """Address that gRPC and HTTP listen on."""
    http_host: str | None = None
    """Address that HTTP listens on, where it is another one than gRPC's."""
    grpc_port: int = 8001
    """0 picks a free one."""
    http_port: int = 8002
    """Metrics, probes and the status page. 0 picks a free one."""
    socket: str | None = None
    """A Unix socket that serves gRPC too."""
    socket_mode: str = "0600"
    """Who may connect to it, as a file mode: by default the daemon's own user only."""
    socket_group: str | None = None
    """The group that it is given to, by name or number; for a mode such as 0660."""
    socket_users: str | None = None
    """Other users who may connect to it, by names or numbers with commas between."""
    front_ends: int = 0
    """Processes that speak gRPC. 0: chosen by the cores and the devices."""
    lanes: int = 0
    """Batches that may be on a device at once. 0: the device's default."""
    devices: str = "auto"
    """Where models run, each device with a worker of its own: `cpu`, `cuda:0` and so on with
    commas between; `all` that there are; `auto` the CUDA devices, else the CPU."""
    ready_file: str | None = None
    """Written, as JSON, once the daemon serves: addresses and process ids."""
    max_message_bytes: int = 128 * MIB
    """The largest gRPC message taken or sent."""
    arena_bytes: int = 512 * MIB
    """Shared memory of one process for tensors in flight; taken only when touched."""
    max_in_flight: int = 4096
    """Requests in flight in one front end."""
    max_queue_size: int = 1024
    """Requests waiting for one version of a model, where its configuration does not say."""
    drain_delay_seconds: float = 0.0
    """After SIGTERM: how long to say not-ready while still serving, so that balancers notice."""
    drain_timeout_seconds: float = 30.0
    """After that: how long requests in flight may take to finish."""
    replay_patience_seconds: float = 30.0
    """How long a request without a deadline waits for a worker that is being restarted."""
    allow_writable_plans: bool = False
    """Load TensorRT plans that other users can write too. A plan is a program."""
    allow_engine_host_code: bool = False
    """Load version-compatible plans, which carry code for the host's processor."""
    tls_certificate: str | None = None
    """A file with the server's certificate, in PEM: gRPC's port then speaks TLS. Read again when
    it changes, as all files of this kind."""
    tls_key: str | None = None
    """A file with its private key, in PEM."""
    tls_client_ca: str | None = None
    """A file with the certificates of those who sign clients' certificates, in PEM: clients then
    need one."""
    http_tls: bool = False
    """TLS on the HTTP port too, with the same certificate; clients need none."""
    http_details_for_all: bool = False
    """Show those who ask HTTP from other machines process ids, paths, causes of errors and
    others' requests too, as those on this machine see them."""
    access_file: str | None = None
    """A file that says who may call what: YAML, or TOML if its name ends in .toml."""
    control_on_tcp: bool = False
    """Take calls that load and unload models on gRPC's port too, and not on the socket only."""
    grpc_max_connections: int = 1024
    """Connections that one front end holds open; more are refused."""
    grpc_max_connection_age_seconds: float = 0.0
    """A client has to connect again after this time, give or take a tenth, and so finds new
    servers. 0: never."""
    grpc_max_connection_age_grace_seconds: float = 0.0
    """How long calls that are open then may take to finish. 0: as long as they like."""
    plan_hashes: str | None = None
    """A file with the SHA-256 hashes of the only plans to load, as sha256sum prints them."""
    model_control_mode: str = "none"
    """How models come and go while the daemon serves: `none`: they do not; `explicit`: by calls;
    `poll`: as the repository's folders do."""
    load_models: str = ""
    """With `explicit`: the models that are loaded at the start, with commas between; `*`: all."""
    allow_config_override: bool = False
    """Let a load call bring a configuration of its own."""
    allow_file_override: bool = False
    """Let a load call bring engine files. A plan is a program."""
    scratch_folder: str | None = None
    """Where what load calls bring is kept. None: where temporary files are."""
    repository_poll_seconds: float = 5.0
    """With `poll`: how often the repository is looked at where no event tells of a change."""
    repository_settle_seconds: float = 2.0
    """With `poll`: how long a model's folder must have stayed the same before it is loaded."""
    otlp_endpoint: str | None = None
    """An OpenTelemetry collector that takes OTLP over HTTP, such as `http://localhost:4318`. None:
    no traces."""
    trace_sample_ratio: float = 0.01
    """The share of requests that is traced, of those whose caller does not say."""
    log_format: str = "console"
    """`console` or `json`."""
    log_level: str = "info"
    """`debug`, `info`, `warning` or `error`."""

    def check(self) -> "Settings":
        """Refuse values that can not work. Raises ConfigurationError, naming the setting."""
        for name in ("grpc_port", "http_port"):
            if not 0 <= getattr(self, name) <= 65535:
                raise ConfigurationError(
                    f"{getattr(self, name)} is no port", where=name,
                    cure="Use 1 to 65535, or 0 for a free one",
                )
        for name in ("max_message_bytes", "arena_bytes", "max_in_flight", "max_queue_size",
                     "grpc_max_connections"):
            if getattr(self, name) < 1:
                raise ConfigurationError(
                    f"{getattr(self, name)} is too small", where=name, cure="Use 1 or more"
                )
        for name in ("front_ends", "lanes", "drain_delay_seconds", "drain_timeout_seconds",
                     "replay_patience_seconds", "repository_settle_seconds",
                     "grpc_max_connection_age_seconds", "grpc_max_connection_age_grace_seconds"):
            if getattr(self, name) < 0:
                raise ConfigurationError(
                    f"{getattr(self, name)} is negative", where=name, cure="Use 0 or more"
                )
        if self.arena_bytes < self.max_message_bytes:
            raise ConfigurationError(
                f"{self.arena_bytes} is less than max_message_bytes ({self.max_message_bytes})",
                where="arena_bytes", cure="A message of the largest size must fit the arena",
            )
        if self.repository_poll_seconds <= 0:
            raise ConfigurationError(
                f"{self.repository_poll_seconds} is too little", where="repository_poll_seconds",
                cure="Use more than 0, such as 5",
            )
        for name, choices in (
            ("model_control_mode", ("none", "explicit", "poll")),
            ("log_format", ("console", "json")),
            ("log_level", ("debug", "info", "warning", "error")),
        ):
            if getattr(self, name) not in choices:
                raise ConfigurationError(
                    f"'{getattr(self, name)}' is not known", where=name,
                    cure=f"Use {' or '.join(choices)}",
                )
        if self.socket is not None and len(os.fsencode(self.socket)) > 100:
            raise ConfigurationError(
                "the path is longer than a Unix socket's may be (100 bytes)", where="socket",
                cure="Choose a shorter one",
            )
        if not 0 <= self.trace_sample_ratio <= 1:
            raise ConfigurationError(
                f"{self.trace_sample_ratio} is no share", where="trace_sample_ratio",
                cure="Use 0 (none but those whose caller asks) to 1 (all)",
            )
        if self.otlp_endpoint is not None and not _URL.match(self.otlp_endpoint):
            raise ConfigurationError(
                f"'{self.otlp_endpoint}' is no address of a collector", where="otlp_endpoint",
                cure="Use one such as http://localhost:4318",
            )
        if self.devices not in ("auto", "all"):
            _check_devices(self.devices.split(","))
        return self


def _check_devices(names: list[str]) -> None:
    """Refuse what can not be devices; whether they are there is seen later."""
    for name in names:
        if not _DEVICE.fullmatch(name):
            raise ConfigurationError(
                f"'{name}' is no device", where="devices",
                cure="Use auto, all, or names such as cpu and cuda:0 with commas between",
            )
        if names.count(name) > 1:
            raise ConfigurationError(
                f"'{name}' comes twice", where="devices", cure="Name each device once"
            )
