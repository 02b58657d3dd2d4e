"""The daemon's settings in a TOML file, as defaults for the flags."""

import tomllib
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import msgspec

from trtserve.config import Settings
from trtserve.errors import ConfigurationError


def read(path: Path) -> dict[str, Any]:
    """The settings in a file. Raises ConfigurationError that names the key and the file."""
    try:
        content = tomllib.loads(path.read_text())
    except OSError as error:
        raise ConfigurationError(
            f"it can not be read: {error.strerror}", where=str(path),
            cure="Give --config (or TRTSERVE_CONFIG) a file that exists",
        ) from error
    except ValueError as error:  # TOML's own errors and UTF-8's
        raise ConfigurationError(f"it is not TOML: {error}", where=str(path)) from error
    types = {field.name: field.type for field in msgspec.structs.fields(Settings)}
    return {key: _checked(path, key, value, types) for key, value in content.items()}


def _checked(path: Path, key: str, value: Any, types: dict[str, Any]) -> Any:
    where = f"{path}, {key}"
    if key not in types:
        close = get_close_matches(key.replace("-", "_"), types, n=1)
        raise ConfigurationError(
            "there is no such setting", where=where,
            cure=f"Did you mean {close[0]}?" if close
            else "`trtserve serve --help` lists them; - in a flag is _ here",
        )
    try:
        return msgspec.convert(value, types[key])
    except msgspec.ValidationError as error:
        raise ConfigurationError(
            f"{error}", where=where, cure="`trtserve serve --help` shows what it takes"
        ) from error
