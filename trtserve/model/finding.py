"""What is wrong in a model repository: where, and how to mend it."""

from typing import Literal

import msgspec

from trtserve.errors import OperatorError


class Finding(msgspec.Struct, frozen=True):
    """One thing that the operator should know.

    An `error` keeps a model or a version from being served; a `warning` does not. `where` is a
    path, with `:line` after it where a line is known.
    """

    severity: Literal["error", "warning"]
    where: str
    problem: str
    cure: str = ""

    @classmethod
    def of(cls, error: OperatorError) -> "Finding":
        """The finding that says what an error says."""
        return cls("error", error.where, error.problem, error.cure)

    def __str__(self) -> str:
        place = f"{self.where}: " if self.where else ""
        cure = f". {self.cure}" if self.cure else ""
        return f"{place}{self.problem}{cure}"
