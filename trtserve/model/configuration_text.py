"""YAML and JSON rewritten as protobuf text format, line for line.

All three formats of a model configuration then share one parser and one way to name the line
of a mistake: every word of the result stands on the line where the original has it.
"""

import json
import re
from pathlib import Path
from typing import Any

import yaml
from google.protobuf.descriptor import Descriptor, FieldDescriptor

from trtserve.errors import ConfigurationError

_BARE = re.compile(r"[\w.+-]+")
"""What may stand unquoted in text format: numbers and the names of enum values."""

_NULL = "tag:yaml.org,2002:null"

_TAB_CURE = "Write one mapping of the configuration's fields, indented with spaces"


def from_yaml(text: str, path: Path, schema: Descriptor) -> str:
    """The text format of a message of type `schema` written as YAML.

    Values are checked by the parser of the text format, later. Raises ConfigurationError with
    the line for bad syntax, a key that is no name, or one that comes twice.
    """
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        raise ConfigurationError(
            f"not YAML: {error.problem}", where=f"{path}:{line}", cure=_TAB_CURE
        ) from None
    except yaml.YAMLError as error:
        raise ConfigurationError(f"not YAML: {error}", where=f"{path}", cure=_TAB_CURE) from None
    if node is None or node.tag == _NULL:
        return ""
    if not isinstance(node, yaml.MappingNode):
        raise ConfigurationError(
            "the file holds no mapping", where=f"{path}:{node.start_mark.line + 1}", cure=_TAB_CURE
        )
    writer = _Writer(path)
    writer.message(node, schema)
    return writer.text()


def from_json(text: str, path: Path, schema: Descriptor) -> str:
    """The text format of a message written as JSON: the same fields and errors as from_yaml."""
    try:
        json.loads(text)
    except json.JSONDecodeError as error:
        raise ConfigurationError(
            f"not JSON: {error.msg}", where=f"{path}:{error.lineno}",
            cure="Write one object of the configuration's fields",
        ) from None
    # JSON is YAML but for tabs between words; inside strings JSON forbids them.
    return from_yaml(text.replace("\t", " "), path, schema)


class _Writer:
    """Writes words in text format, each on its line of the original."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._parts: list[str] = []
        self._line = 0

    def text(self) -> str:
        return "".join(self._parts)

    def _put(self, word: str, node: yaml.Node) -> None:
        # An alias's lines lie behind; what it holds then goes where the alias is used.
        ahead = max(0, node.start_mark.line - self._line)
        self._line += ahead
        self._parts += ("\n" * ahead, " ", word)

    def message(self, node: yaml.MappingNode, schema: Descriptor) -> None:
        seen: set[str] = set()
        for key, value in node.value:
            name = str(key.value)
            if not (name.isidentifier() and name.isascii()):
                raise self._error(key, f"'{name}' is no name of a field", "Remove it")
            field = _field(schema, name)
            name = field.name if field else name
            if name in seen:
                raise self._error(key, f"'{name}' comes twice", "Keep one of them")
            seen.add(name)
            if value.tag != _NULL:
                self._field(name, field, key, value)

    def _field(
        self, name: str, field: FieldDescriptor | None, key: yaml.Node, value: yaml.Node
    ) -> None:
        if field is None:
            self._put(f"{name}: 0", key)  # the parser says that there is no such field
        elif field.message_type and field.message_type.GetOptions().map_entry:
            self._map(field, key, value)
        elif isinstance(value, yaml.SequenceNode):
            for item in value.value:
                self._value(name, field, item, item)
        else:
            self._value(name, field, key, value)

    def _map(self, field: FieldDescriptor, key: yaml.Node, value: yaml.Node) -> None:
        if field.message_type is None or not isinstance(value, yaml.MappingNode):
            raise self._error(key, f"'{field.name}' is no mapping", "Write names with their values")
        entry = field.message_type.fields_by_name
        for entry_key, entry_value in value.value:
            self._put(f"{field.name} {{", entry_key)
            self._value("key", entry["key"], entry_key, entry_key)
            self._value("value", entry["value"], entry_value, entry_value)
            self._put("}", entry_value)

    def _value(self, name: str, field: FieldDescriptor, at: yaml.Node, value: yaml.Node) -> None:
        if isinstance(value, yaml.MappingNode):
            if field.message_type is None:
                raise self._error(at, f"'{name}' is one value, not a mapping", "Write its value")
            self._put(f"{name} {{", at)
            self.message(value, field.message_type)
            self._put("}", at)
        elif isinstance(value, yaml.SequenceNode):
            raise self._error(at, f"'{name}' is a list inside a list", "Write one list")
        elif field.message_type is not None:
            raise self._error(at, f"'{name}' is one value, not a mapping", "Write its fields")
        else:
            self._put(f"{name}:", at)
            self._put(self._scalar(field, value), value)

    def _scalar(self, field: FieldDescriptor, node: yaml.Node) -> str:
        try:
            value: Any = yaml.SafeLoader("").construct_object(node)
        except (yaml.YAMLError, ValueError) as error:
            raise self._error(node, f"'{node.value}' is no value: {error}", "Quote it") from None
        if isinstance(value, bool):
            return "true" if value else "false"
        if isinstance(value, int | float):
            return str(value)
        text = str(value)
        if field.cpp_type != FieldDescriptor.CPPTYPE_STRING and _BARE.fullmatch(text):
            return text  # an enum value's name, or a number in quotes, as JSON writes 64 bits
        return _quoted(text)

    def _error(self, node: yaml.Node, problem: str, cure: str) -> ConfigurationError:
        return ConfigurationError(
            problem, where=f"{self._path}:{node.start_mark.line + 1}", cure=cure
        )


def _field(schema: Descriptor, name: str) -> FieldDescriptor | None:
    """The field of that name, as the schema writes it or in protobuf's camelCase for JSON."""
    return schema.fields_by_name.get(name) or schema.fields_by_camelcase_name.get(name)


def _quoted(text: str) -> str:
    """A string in text format. JSON may write one character as two surrogates."""
    whole = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return '"' + "".join(f"\\{byte:03o}" for byte in whole.encode()) + '"'
