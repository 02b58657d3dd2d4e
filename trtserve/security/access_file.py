"""The access file: callers and their rights, in YAML or TOML, read into the rules of access.py."""

import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, NoReturn

import msgspec
import yaml

from trtserve.errors import ConfigurationError
from trtserve.security.access import ANONYMOUS, SOCKET, Access, Caller, Kind
from trtserve.security.rates import Rate
from trtserve.security.tokens import is_hash
from trtserve.security.watched import read_file

MAX_FILE_BYTES = 1 << 20

MIN_RATE = 1e-6
"""Requests a second. Any less is a mistake, or not a number that one can count with."""

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")

# A safe loader, ten times as fast where the library has it: while a file of a thousand callers is
# read, everybody waits.
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_PATH = re.compile(r"\$(\S*?)`?$")


class _Rate(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    requests_per_second: float
    burst: float | None = None


class _Caller(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    allow: tuple[Kind, ...] = (Kind.INFER, Kind.READ)
    models: tuple[str, ...] = ("*",)
    tokens: tuple[str, ...] = ()
    certificates: tuple[str, ...] = ()
    rate: _Rate | None = None


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    callers: tuple[_Caller, ...]


def read_access(path: str) -> Access:
    """Read a file. Raises OperatorError that names it, the line or the key, and the cure."""
    data = read_file(path, "access_file", MAX_FILE_BYTES)
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise ConfigurationError("it is not text in UTF-8", where=path) from error
    return parse_access(text, path)


def parse_access(text: str, path: str) -> Access:
    """The rules in a text: TOML if the path ends so, else YAML. Raises ConfigurationError."""
    is_toml = path.endswith(".toml")
    try:
        content = tomllib.loads(text) if is_toml else _from_yaml(text)
    except (tomllib.TOMLDecodeError, yaml.YAMLError, RecursionError, ValueError) as error:
        raise ConfigurationError(
            f"it is not {'TOML' if is_toml else 'YAML'}: {_one_line(error)}", where=path,
            cure="docs/security.md has an example",
        ) from error
    source = _Source(path, None if is_toml else text)
    try:
        file = msgspec.convert(content, _File)
    except msgspec.ValidationError as error:
        _refuse_shape(str(error), source)
    return Access(_callers(file, source), text)


def _from_yaml(text: str) -> Any:
    loader = _LOADER(text)
    try:
        return loader.get_single_data()
    finally:
        loader.dispose()


@dataclass(frozen=True, slots=True)
class _Source:
    """A file, and its text if that is YAML: for errors, which name the line."""

    path: str
    text: str | None

    def where(self, key: str) -> str:
        """The file, the line of the innermost part of the key that is known, and the key."""
        lines = {} if self.text is None else _lines(self.text)
        known = key
        while known and known not in lines:
            known = known[: max(known.rfind("."), known.rfind("["), 0)]
        line = f", line {lines[known]}" if known else ""
        return f"{self.path}{line}{', ' + key if key else ''}"


def _callers(file: _File, source: _Source) -> Iterator[Caller]:
    names: set[str] = set()
    proofs: dict[str, str] = {}
    for index, caller in enumerate(file.callers):
        key = f"callers[{index}]"

        def refuse(field: str, problem: str, cure: str = "", key: str = key) -> NoReturn:
            raise ConfigurationError(problem, where=source.where(f"{key}.{field}"), cure=cure)

        if not NAME.fullmatch(caller.name):
            refuse("name", f"'{caller.name}' is no name for a caller",
                   "Use letters, digits, . _ @ and -, at most 64")
        if caller.name in names:
            refuse("name", f"'{caller.name}' comes twice", "Give each caller one entry")
        names.add(caller.name)
        if caller.name in (ANONYMOUS, SOCKET):
            if caller.tokens or caller.certificates:
                refuse("name", f"'{caller.name}' means callers who prove nothing",
                       "Give a caller with tokens or certificates another name")
        elif not caller.tokens and not caller.certificates:
            refuse("name", f"'{caller.name}' has neither tokens nor certificates",
                   f"`trtserve token {caller.name}` makes a token")
        for number, token in enumerate(caller.tokens):
            if not is_hash(token):
                refuse(f"tokens[{number}]", "this is not the hash of a token",
                       "It looks like sha256: and 64 hexadecimal digits; `trtserve token NAME` "
                       "makes a token with its hash")
        for field in ("tokens", "certificates"):
            for proof in getattr(caller, field):
                if proof in proofs:
                    refuse(field, f"one of them is '{proofs[proof]}''s too",
                           "Give each caller its own")
                proofs[proof] = caller.name
        for field in ("allow", "models"):
            if not getattr(caller, field):
                refuse(field, "it is empty", "Leave it out, or remove the caller")
        yield Caller(
            caller.name, frozenset(caller.allow), caller.models, caller.tokens,
            caller.certificates, _rate(caller.rate, refuse),
        )


def _rate(rate: _Rate | None, refuse: Any) -> Rate | None:
    if rate is None:
        return None
    if not MIN_RATE <= rate.requests_per_second < 1e9:
        refuse("rate.requests_per_second", f"{rate.requests_per_second:g} is no rate",
               f"Use {MIN_RATE:g} (one in eleven days) or more; without a rate there is no limit")
    burst = max(1.0, rate.requests_per_second) if rate.burst is None else rate.burst
    if not 1 <= burst < 1e9:
        refuse("rate.burst", f"{burst:g} lets nobody in", "Use 1 or more")
    return Rate(rate.requests_per_second, burst)


def _refuse_shape(message: str, source: _Source) -> NoReturn:
    """msgspec says `... - at `$.callers[0].allow[1]``."""
    problem, _, place = message.partition(" - at ")
    found = _PATH.search(place)
    key = found[1].lstrip(".") if found else ""
    cure = "docs/security.md has an example"
    unknown = re.search(r"unknown field `(.+?)`", problem)
    if unknown:
        known = (_Rate, _Caller, _File)[2 if not key else 0 if key.endswith("rate") else 1]
        close = get_close_matches(unknown[1], known.__struct_fields__, n=1)
        problem = f"there is no key '{unknown[1]}'"
        key = f"{key}.{unknown[1]}".lstrip(".")
        cure = f"Did you mean {close[0]}?" if close else (
            f"It may have {', '.join(known.__struct_fields__)}"
        )
    elif key.partition("].")[2].startswith("allow"):
        cure = f"Use {', '.join(Kind)}"
    raise ConfigurationError(
        problem[:1].lower() + problem[1:], where=source.where(key), cure=cure
    )


def _lines(text: str) -> dict[str, int]:
    """The lines of a YAML text's keys, by paths such as `callers[0].allow`."""
    found: dict[str, int] = {}

    def walk(node: Any, path: str, depth: int) -> None:
        if path:
            found.setdefault(path, node.start_mark.line + 1)
        if depth > 8:
            return
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                inner = f"{path}.{key.value}".lstrip(".")
                found[inner] = key.start_mark.line + 1
                walk(value, inner, depth + 1)
        elif isinstance(node, yaml.SequenceNode):
            for index, value in enumerate(node.value):
                walk(value, f"{path}[{index}]", depth + 1)

    walk(yaml.compose(text, Loader=_LOADER), "", 0)
    return found


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
