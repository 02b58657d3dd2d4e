"""A Dockerfile's instructions, stage by stage."""

import json
import re
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Instruction:
    """One instruction: its word in capitals, and what follows it."""

    word: str
    rest: str

    @property
    def words(self) -> list[str]:
        """What follows, word by word, without options."""
        return [word for word in self.rest.split() if not word.startswith("--")]

    @property
    def options(self) -> dict[str, str]:
        return dict(re.findall(r"--([\w-]+)=(\S+)", self.rest))

    @property
    def exec_form(self) -> list[str]:
        """The list that follows; empty for the form that starts a shell."""
        found = re.search(r"\[.*\]$", self.rest)
        return list(json.loads(found.group())) if found else []


@dataclass(frozen=True)
class Stage:
    """From one FROM to the next."""

    base: str
    name: str
    instructions: tuple[Instruction, ...]

    def all(self, word: str) -> list[Instruction]:
        return [each for each in self.instructions if each.word == word]

    def last(self, word: str) -> Instruction:
        return self.all(word)[-1]


def parse(path: Path) -> tuple[dict[str, str], list[Stage]]:
    """The arguments before the first FROM, with their defaults, and the stages."""
    lines = [line for line in path.read_text().splitlines() if not re.match(r"\s*#", line)]
    text = re.sub(r"\\\n\s*", "", "\n".join(lines))
    arguments: dict[str, str] = {}
    stages: list[tuple[str, str, list[Instruction]]] = []
    for line in filter(str.strip, text.splitlines()):
        word, _, rest = line.strip().partition(" ")
        if word == "FROM":
            base, _, name = rest.partition(" AS ")
            stages.append((base, name, []))
        elif stages:
            stages[-1][2].append(Instruction(word, rest.strip()))
        else:
            assert word == "ARG"
            name, _, default = rest.partition("=")
            arguments[name] = default
    return arguments, [Stage(base, name, tuple(found)) for base, name, found in stages]
