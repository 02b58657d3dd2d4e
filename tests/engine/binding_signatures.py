"""Signatures of pybind11's bindings, read from the docstrings that it writes."""

import mmap
import re
from dataclasses import dataclass
from typing import Any

_LINE = re.compile(r"^(?:\d+\. )?(\w+)\((self: .*)\)(?: -> (.+))?$")


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter: `kind` is its type's last name, such as `SupportsInt`."""

    name: str
    kind: str
    optional: bool


@dataclass(frozen=True, slots=True)
class Signature:
    """One form of a method, without self. `returns` is the type's last name."""

    parameters: tuple[Parameter, ...]
    returns: str

    def takes(self, arguments: tuple[Any, ...]) -> bool:
        """Whether these arguments, by position, would be taken."""
        needed = sum(not parameter.optional for parameter in self.parameters)
        return needed <= len(arguments) <= len(self.parameters) and all(
            _is_a(argument, parameter.kind)
            for argument, parameter in zip(arguments, self.parameters, strict=False)
        )


def signatures(method: Any) -> list[Signature]:
    """All forms of a bound method."""
    name = method.__name__
    found = []
    for line in (method.__doc__ or "").splitlines():
        match = _LINE.match(line.strip())
        if match and match[1] == name and "*args" not in line:
            _, *rest = _split(match[2])
            found.append(Signature(tuple(map(_parameter, rest)), _last(match[3] or "None")))
    return found


def _split(text: str) -> list[str]:
    """A list of parameters at its commas, but for those within brackets."""
    parts, depth, start = [], 0, 0
    for index, letter in enumerate(text):
        depth += (letter in "[<(") - (letter in "])" or (letter == ">" and text[index - 1] != "-"))
        if letter == "," and depth == 0:
            parts.append(text[start:index].strip())
            start = index + 1
    return [*parts, text[start:].strip()]


def _parameter(text: str) -> Parameter:
    name, _, rest = text.partition(":")
    kind, has_default, _ = rest.partition("=")
    return Parameter(name.strip(), _last(kind.strip()), bool(has_default))


def _last(kind: str) -> str:
    """A type's name without its modules, and without what it holds."""
    return re.split(r"\.|::", kind.partition("[")[0].strip())[-1]


def _is_a(argument: Any, kind: str) -> bool:
    """Whether an argument has a type that pybind11 takes for that name."""
    if kind in ("SupportsInt", "int"):
        return isinstance(argument, int) and not isinstance(argument, bool)
    if kind == "Buffer":
        return isinstance(argument, bytes | bytearray | memoryview | mmap.mmap)
    return kind in {cls.__name__ for cls in type(argument).__mro__}
