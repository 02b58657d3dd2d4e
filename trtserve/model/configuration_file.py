"""A model's configuration file: found, parsed, and the line of each of its fields."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import cast

from google.protobuf import json_format, text_format
from google.protobuf.descriptor import Descriptor

from trtserve.errors import ConfigurationError
from trtserve.model.configuration_text import from_json, from_yaml
from trtserve.model.layout import CONFIGURATION_NAMES
from trtserve.proto.model_config_pb2 import ModelConfig
from trtserve.proto.pool import POOL

SCHEMA = cast("Descriptor", ModelConfig.DESCRIPTOR)
"""The fields that a configuration may have."""

FieldPath = tuple[str | int, ...]
"""A field's place in the message: names, and after a repeated field's name an index."""

_TOKEN = re.compile(
    r"""(?P<skip>[\s:,;]+|\#[^\n]*)"""
    r"""|(?P<text>"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*')"""
    r"""|(?P<mark>[{}<>\[\]])"""
    r"""|(?P<word>[^\s{}<>\[\]:,;#"']+)"""
)
_NO_SUCH_NAME = re.compile(r'type "(?P<type>[\w.]+)" has no (?:value|field) named "?(?P<name>\w+)')


@dataclass(frozen=True)
class Origin:
    """Where a configuration came from: its file, and the line of each of its fields."""

    path: Path | None = None
    lines: Mapping[FieldPath, int] = field(default_factory=dict)

    def has(self, *place: str | int) -> bool:
        """Whether the file names this very field, be it with its default value."""
        return _indexed(place) in self.lines

    def where(self, *place: str | int) -> str:
        """`path:line` of a field, or of the nearest field around it that has a line."""
        if self.path is None:
            return ""
        for length in range(len(place), 0, -1):
            line = self.lines.get(_indexed(place[:length]))
            if line is not None:
                return f"{self.path}:{line}"
        return str(self.path)


def read_file(folder: Path) -> tuple[ModelConfig, Origin]:
    """The configuration in a model's folder; an empty one where there is no file.

    Raises ConfigurationError, with the line, for what does not parse, and where there are
    several files; OSError where the file can not be read.
    """
    present = [folder / name for name in CONFIGURATION_NAMES if _is_there(folder / name)]
    if not present:
        return ModelConfig(), Origin()
    if len(present) > 1:
        names = " and ".join(path.name for path in present)
        raise ConfigurationError(
            f"{names} both configure this model", where=str(folder), cure="Keep one of them"
        )
    path = present[0]
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigurationError(
            f"not UTF-8 at byte {error.start}", where=str(path), cure="Save it as UTF-8 text"
        ) from None
    try:
        if path.suffix == ".yaml":
            text = from_yaml(text, path, SCHEMA)
        elif path.suffix == ".json":
            text = from_json(text, path, SCHEMA)
        return _parse(text, path), Origin(path, field_lines(text))
    except (RecursionError, ValueError) as error:  # the parsers' limits
        raise ConfigurationError(
            _LIMITS, where=str(path), cure="Write a configuration of the usual size"
        ) from error


def from_json_text(text: str) -> ModelConfig:
    """A configuration that comes as JSON by itself, as protobuf writes it and Triton takes it.

    Raises ConfigurationError for what does not parse.
    """
    message = ModelConfig()
    if not text.lstrip().startswith("{"):
        raise ConfigurationError("not a JSON object")
    try:
        json_format.Parse(text, message)
    except json_format.ParseError as error:
        raise ConfigurationError(str(error).partition("\n")[0].rstrip(".")) from error
    except (RecursionError, ValueError) as error:
        raise ConfigurationError(_LIMITS) from error
    return message


_LIMITS = "it is nested too deeply, or has a number that is too long"


def _is_there(path: Path) -> bool:
    # A link that leads nowhere is there: reading it fails, instead of serving the defaults.
    return path.is_file() or path.is_symlink()


def _parse(text: str, path: Path) -> ModelConfig:
    try:
        return text_format.Parse(text, ModelConfig())
    except text_format.ParseError as error:
        line = error.GetLine() or 1
        problem = re.sub(r"^\d+:\d+ : ", "", str(error))
        # The parser quotes the line, which in YAML and JSON is not what the file says.
        problem = problem.removeprefix(f"'{text.split(chr(10))[line - 1]}': ").rstrip(".")
        raise ConfigurationError(problem, where=f"{path}:{line}", cure=_cure(problem)) from None


def _cure(problem: str) -> str:
    """What to write instead of a name that the schema lacks."""
    unknown = _NO_SUCH_NAME.search(problem)
    if unknown is None:
        return "Mend this line"
    type_name = unknown["type"]
    names: list[str]
    if problem.startswith("Enum"):
        names = [value.name for value in POOL.FindEnumTypeByName(type_name).values]
    else:
        names = [entry.name for entry in POOL.FindMessageTypeByName(type_name).fields]
    close = get_close_matches(unknown["name"], names, n=1)
    return f"Did you mean {close[0]}?" if close else f"It has {', '.join(names)}"


def field_lines(text: str) -> dict[FieldPath, int]:
    """The line of each field of a text that has parsed, numbered from 1.

    The paths give an index to every field, repeated or not, in order of appearance.
    """
    return _LineScan().run(text)


def _indexed(place: FieldPath) -> FieldPath:
    """A path with the index 0 after each name that has none."""
    path: list[str | int] = []
    for part, following in zip(place, (*place[1:], ""), strict=True):
        path.append(part)
        if isinstance(part, str) and isinstance(following, str):
            path.append(0)
    return tuple(path)


class _LineScan:
    """Follows the nesting of text format. The parser has vouched for the grammar."""

    def __init__(self) -> None:
        self._lines: dict[FieldPath, int] = {}
        self._path: FieldPath = ()
        self._counts: Counter[FieldPath] = Counter()
        self._name: str | None = None  # the field whose value comes next
        self._name_line = 0
        self._in_list = False
        self._outer: list[tuple[FieldPath, str | None, bool]] = []

    def run(self, text: str) -> dict[FieldPath, int]:
        for token, line in _tokens(text):
            if token in "{<":
                inside = self._record(line)
                self._outer.append((self._path, self._name, self._in_list))
                self._path, self._name, self._in_list = inside, None, False
            elif token in "}>":
                self._path, self._name, self._in_list = self._outer.pop()
                self._end_value()
            elif token == "[":
                self._in_list = True
            elif token == "]":
                self._in_list = False
                self._end_value()
            elif self._name is not None:
                self._record(line)
                self._end_value()
            elif token[0].isalpha() or token[0] == "_":
                self._name, self._name_line = token, line
            # Anything else is the second part of a string, as in "a" "b".
        return self._lines

    def _record(self, line: int) -> FieldPath:
        key = (*self._path, self._name or "")
        place = (*key, self._counts[key])
        self._counts[key] += 1
        self._lines[place] = line if self._in_list else self._name_line
        return place

    def _end_value(self) -> None:
        if not self._in_list:
            self._name = None


def _tokens(text: str) -> Iterator[tuple[str, int]]:
    line = 1
    for match in _TOKEN.finditer(text):
        if match.lastgroup != "skip":
            yield match[0], line
        line += match[0].count("\n")
