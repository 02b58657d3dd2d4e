"""Which of a model's version folders are served."""

from collections.abc import Collection
from typing import Self

import msgspec

from trtserve.proto import model_config_pb2


class VersionPolicy(msgspec.Struct, frozen=True):
    """All versions, the latest n, or specific ones.

    Exactly one field says so: `specific` where it is not empty, else `latest`; `latest` 0 means
    all versions. Version 3 is later than version 2, whatever the dates of their files.
    """

    latest: int = 1
    specific: tuple[int, ...] = ()

    @classmethod
    def of(cls, message: model_config_pb2.ModelVersionPolicy) -> Self:
        """What a configuration says; the latest one where it says nothing."""
        match message.WhichOneof("policy_choice"):
            case "all":
                return cls(latest=0)
            case "latest":
                return cls(latest=message.latest.num_versions)
            case "specific":
                return cls(specific=tuple(sorted(set(message.specific.versions))))
            case _:
                return cls()

    def choose(self, available: Collection[int]) -> tuple[int, ...]:
        """The versions to serve, ascending. Specific ones are named even where they are missing,
        so that the caller can say so."""
        if self.specific:
            return self.specific
        return tuple(sorted(available)[-self.latest :])
