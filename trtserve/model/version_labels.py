"""Names for versions, and how traffic is split between them: two of a model's parameters.

    parameters { key: "version_labels" value { string_value: "stable=1, canary=2" } }
    parameters { key: "version_weights" value { string_value: "1=90, 2=10" } }

They are parameters because Triton's configuration has no fields for them.
"""

import re
from collections.abc import Collection, Iterator

import msgspec

from trtserve.errors import ConfigurationError
from trtserve.model.configuration_file import FieldPath, Origin
from trtserve.proto.model_config_pb2 import ModelConfig

LABELS, WEIGHTS = "version_labels", "version_weights"
"""The parameters' names."""

LABEL = re.compile(r"[A-Za-z][A-Za-z0-9._-]{0,62}")
"""What a label may be: never a number, so that it is never taken for a version."""

_VERSION = re.compile(r"[1-9][0-9]{0,17}")
_WEIGHT = re.compile(r"[0-9]{1,6}")


class VersionNames(msgspec.Struct, frozen=True):
    """What a configuration says: the version of each label, the weight of each version."""

    labels: dict[str, int] = {}
    weights: dict[int, int] = {}

    def labels_of(self, version: int) -> tuple[str, ...]:
        """The labels of a version, by name."""
        return tuple(sorted(label for label, each in self.labels.items() if each == version))

    def weight_of(self, version: int) -> int | None:
        """Its share of the requests that name no version: 0 where others have weights and it
        has none; None where the traffic is not split."""
        return self.weights.get(version, 0) if self.weights else None


def read_names(message: ModelConfig, origin: Origin) -> VersionNames:
    """Read both parameters. Raises ConfigurationError, with the line, for what is not meant."""
    reader = _Reader(message, origin)
    return VersionNames(reader.labels(), reader.weights())


def check_served(
    names: VersionNames, chosen: Collection[int], available: Collection[int], origin: Origin
) -> None:
    """Refuse labels and weights of versions that would not be loaded.

    `chosen` is what the version policy chose of what is `available`. Raises ConfigurationError.
    """
    wanted = [(LABELS, f"label '{label}' names", number) for label, number in names.labels.items()]
    wanted += [(WEIGHTS, "a weight is given to", number) for number in names.weights]
    for parameter, what, number in wanted:
        if number in chosen:
            continue
        where = origin.where("parameters", parameter)
        problem = f"{parameter}: {what} version {number}, which"
        if number not in available:
            there = ", ".join(map(str, sorted(available)))
            raise ConfigurationError(
                f"{problem} is not there", where=where,
                cure=f"Add its folder, or name one of {there}",
            )
        versions = sorted({*chosen, *names.labels.values(), *names.weights} & {*available})
        raise ConfigurationError(
            f"{problem} the version_policy does not choose", where=where,
            cure=f"Write version_policy {{ specific {{ versions: {versions} }} }}",
        )


class _Reader:
    def __init__(self, message: ModelConfig, origin: Origin) -> None:
        self._message = message
        self._origin = origin

    def labels(self) -> dict[str, int]:
        found: dict[str, int] = {}
        for label, version in self._pairs(LABELS, "stable=1, canary=2"):
            if not LABEL.fullmatch(label):
                why = "is a number" if label.isdigit() else "is no label"
                raise self._error(
                    LABELS, f"'{label}' {why}",
                    "Begin with a letter; then letters, digits, '.', '_' and '-', at most 63",
                )
            if label in found:
                raise self._error(LABELS, f"label '{label}' comes twice", "Keep one of them")
            found[label] = self._version(LABELS, version)
        return found

    def weights(self) -> dict[int, int]:
        found: dict[int, int] = {}
        for number, weight in self._pairs(WEIGHTS, "1=90, 2=10"):
            version = self._version(WEIGHTS, number)
            if version in found:
                raise self._error(WEIGHTS, f"version {version} comes twice", "Keep one of them")
            if not _WEIGHT.fullmatch(weight):
                raise self._error(
                    WEIGHTS, f"'{weight}' is no weight of version {version}",
                    "Use a whole number from 0 to 999999",
                )
            found[version] = int(weight)
        if found and not any(found.values()):
            raise self._error(
                WEIGHTS, "all weights are 0, so no version gets any request",
                "Give one of them a weight above 0",
            )
        return found

    def _version(self, parameter: str, text: str) -> int:
        if not _VERSION.fullmatch(text):
            raise self._error(
                parameter, f"'{text}' is no version", "Use a version's number, 1 or more"
            )
        return int(text)

    def _pairs(self, parameter: str, example: str) -> Iterator[tuple[str, str]]:
        if parameter not in self._message.parameters:
            return
        text = self._message.parameters[parameter].string_value
        for part in text.split(","):
            left, sign, right = part.partition("=")
            if not sign or not left.strip() or not right.strip():
                raise self._error(
                    parameter, f"'{part.strip()}' is not NAME=VALUE", f"Write them as {example}"
                )
            yield left.strip(), right.strip()

    def _error(self, parameter: str, problem: str, cure: str) -> ConfigurationError:
        place: FieldPath = ("parameters", parameter)
        return ConfigurationError(
            f"{parameter}: {problem}", where=self._origin.where(*place), cure=cure
        )
