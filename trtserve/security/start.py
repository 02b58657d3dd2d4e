"""What the settings say of security, read and proved before anything listens."""

import logging
import os
import stat

from trtserve.config import Settings
from trtserve.errors import ConfigurationError
from trtserve.security.access import Access
from trtserve.security.access_file import parse_access, read_access
from trtserve.security.certificates import Files, Identity, read_identity
from trtserve.security.keeper import NOTHING, Keeper, Kept
from trtserve.security.socket_file import permissions
from trtserve.security.watched import Watched

_log = logging.getLogger(__name__)

_LOOPBACK = ("127.", "::1", "localhost")


def check(settings: Settings) -> Keeper:
    """Read everything once: raises OperatorError for what can not work, and logs what is
    dangerous."""
    _check_pairs(settings)
    identity = watched_identity(settings)
    access = watched_access(settings)
    permissions(settings.socket_mode, settings.socket_group, settings.socket_users)
    for warning in warnings(settings, has_access=access is not None):
        _log.warning("%s", warning)
    return Keeper(identity, access)


def _check_pairs(settings: Settings) -> None:
    """Refuse settings of which one lacks another; the files are read later."""
    given = {"tls_certificate": settings.tls_certificate, "tls_key": settings.tls_key}
    missing = [name for name, path in given.items() if path is None]
    if len(missing) == 1:
        raise ConfigurationError(
            "it is missing, and the other half of the pair is there", where=missing[0],
            cure="Give tls_certificate and tls_key together",
        )
    for name, wanted in (
        ("tls_client_ca", settings.tls_client_ca is not None), ("http_tls", settings.http_tls),
    ):
        if wanted and missing:
            raise ConfigurationError(
                "it does nothing without a certificate", where=name,
                cure="Give tls_certificate and tls_key too",
            )


def watched_identity(settings: Settings, kept: Kept = NOTHING) -> Watched[Identity] | None:
    """The server's certificate; None without TLS. Raises OperatorError."""
    if settings.tls_certificate is None or settings.tls_key is None:
        return None
    files = Files(settings.tls_certificate, settings.tls_key, settings.tls_client_ca)
    return Watched("certificate", files.paths, lambda: read_identity(files), kept.identity)


def watched_access(settings: Settings, kept: Kept = NOTHING) -> Watched[Access] | None:
    """The access file's rules; None without. Raises OperatorError."""
    path = settings.access_file
    if path is None:
        return None
    last = None if kept.access is None else parse_access(kept.access, path)
    return Watched("access file", (path,), lambda: read_access(path), last)


def warnings(settings: Settings, *, has_access: bool) -> list[str]:
    """What an operator should know about these settings."""
    found = []
    loopback = settings.host.startswith(_LOOPBACK)
    secured = settings.tls_certificate is not None
    if not loopback and not has_access and settings.tls_client_ca is None:
        found.append(
            f"everybody who reaches {settings.host} may use all models: see access_file and "
            f"tls_client_ca"
        )
    if not loopback and has_access and not secured:
        found.append(
            "tokens cross the network in clear: give tls_certificate and tls_key, unless "
            "something in front of the daemon encrypts"
        )
    found += [
        f"{path} can be {done} by other users: chmod {cure}"
        for path, mask, done, cure in (
            (settings.tls_key, stat.S_IROTH | stat.S_IWOTH, "read", "o-rw"),
            (settings.access_file, stat.S_IWOTH, "changed", "o-w"),
            (settings.tls_client_ca, stat.S_IWOTH, "changed", "o-w"),
        )
        if path is not None and _mode(path) & mask
    ]
    if settings.control_on_tcp and not has_access:
        found.append(
            "control_on_tcp without an access_file: everybody who reaches the gRPC port may load "
            "and unload models"
        )
    return found


def _mode(path: str) -> int:
    try:
        return os.stat(path).st_mode
    except OSError:  # whoever reads it says so
        return 0
