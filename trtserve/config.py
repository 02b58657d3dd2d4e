"""The daemon's settings: one frozen value that the supervisor passes to every child."""

import os
import re

import msgspec

from trtserve.errors import ConfigurationError

MIB = 1 << 20

_DEVICE = re.compile(r"cpu|cuda:(0|[1-9][0-9]{0,3})")
"""The name of one device. CUDA's own number follows the colon."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Everything `trtserve serve` can be told. The field's name is the flag's, the key's in the
    TOML file, and with TRTSERVE_ in front and in capitals the environment variable's.
    """

    repository: str
    host: str = "127.0.0.1"
    """Address that gRPC and HTTP listen on."""
    grpc_port: int = 8001
    """0 picks a free one."""
    http_port: int = 8002
    """Metrics, probes and the status page. 0 picks a free one."""
    socket: str | None = None
    """A Unix socket that serves gRPC too."""
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
    plan_hashes: str | None = None
    """A file with the SHA-256 hashes of the only plans to load, as sha256sum prints them."""
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
        for name in ("max_message_bytes", "arena_bytes", "max_in_flight", "max_queue_size"):
            if getattr(self, name) < 1:
                raise ConfigurationError(
                    f"{getattr(self, name)} is too small", where=name, cure="Use 1 or more"
                )
        for name in ("front_ends", "lanes", "drain_delay_seconds", "drain_timeout_seconds",
                     "replay_patience_seconds"):
            if getattr(self, name) < 0:
                raise ConfigurationError(
                    f"{getattr(self, name)} is negative", where=name, cure="Use 0 or more"
                )
        if self.arena_bytes < self.max_message_bytes:
            raise ConfigurationError(
                f"{self.arena_bytes} is less than max_message_bytes ({self.max_message_bytes})",
                where="arena_bytes", cure="A message of the largest size must fit the arena",
            )
        for name, choices in (
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


def cpu_count() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0))
