"""When a folder that changes is ready to be loaded: pure, it takes what was seen, and the time.

A model is loaded once its folder has stayed the same for a while and nobody writes to it, and
unloaded once its folder has been gone for as long. What was asked for is not asked for again: a
load that fails is tried again when the folder changes.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from trtserve.clock import NS_PER_S
from trtserve.supervisor.fingerprint import Fingerprint

_LEAST_WAIT_NS = NS_PER_S // 20
"""Between looks at what is being written, however short it has to settle."""

_NEVER = Fingerprint(())
"""No folder looks like this."""


@dataclass(frozen=True, slots=True)
class Wish:
    """A model that should be loaded as its folder now is, or (None) unloaded."""

    model: str
    fingerprint: Fingerprint | None


@dataclass(frozen=True, slots=True)
class _Change:
    """What a model's folder has looked like since `since_ns`."""

    fingerprint: Fingerprint | None
    since_ns: int


class Settling:
    """What was asked for, and what has changed since."""

    def __init__(self, settle_seconds: float) -> None:
        self._settle_ns = int(settle_seconds * NS_PER_S)
        self._asked: dict[str, Fingerprint] = {}
        self._changing: dict[str, _Change] = {}

    def begin(
        self, seen: Mapping[str, Fingerprint], unix_ns: int, busy: Callable[[str], bool]
    ) -> list[str]:
        """The models to start with: those whose folders were left alone long enough already, by
        their own times. The others follow as they settle."""
        taken = []
        for model, found in seen.items():
            settled = unix_ns - found.changed_ns >= self._settle_ns and not busy(model)
            # One that follows is waited for: should it go first, that has to be told too.
            self._asked[model] = found if settled else _NEVER
            if settled:
                taken.append(model)
        return sorted(taken)

    def look(
        self, seen: Mapping[str, Fingerprint], now: int, busy: Callable[[str], bool]
    ) -> list[Wish]:
        """What to do about what is seen. `busy` says whether anybody writes to a model's folder;
        it is asked of those that have settled."""
        wishes = []
        for model in sorted({*seen, *self._asked, *self._changing}):
            found = seen.get(model)
            if found == self._asked.get(model):
                self._changing.pop(model, None)
                continue
            change = self._changing.get(model)
            if change is None or change.fingerprint != found:
                change = self._changing[model] = _Change(found, now)
            if now - change.since_ns < self._settle_ns or (found is not None and busy(model)):
                continue
            del self._changing[model]
            if found is None:
                del self._asked[model]
            else:
                self._asked[model] = found
            wishes.append(Wish(model, found))
        return wishes

    def forget(self, model: str) -> None:
        """What was asked for did not happen since the folder changed meanwhile: ask again."""
        if model in self._asked:
            self._asked[model] = _NEVER

    def wake_ns(self, now: int) -> int | None:
        """When something may have settled, if nothing changes any more. One that is being written
        is looked at again after a while."""
        if not self._changing:
            return None
        due = min(change.since_ns for change in self._changing.values()) + self._settle_ns
        return max(due, now + max(self._settle_ns // 8, _LEAST_WAIT_NS))
