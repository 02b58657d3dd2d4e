"""Models whose loading kills their worker: pure, it hears of deaths and says whom to leave out.

Workers load one model after the other and say what is to come, so the first one that is still
loading when a worker dies is the one that it was at. Once may be chance. Twice in a row, and the
next worker starts without the model: it is unavailable there, and all others serve. An order to
load the model tries it again.
"""

from collections.abc import Iterable

import msgspec

from trtserve.ipc.message import ModelUpdate
from trtserve.model.spec import ModelState

REASON = (
    "its loading ended the worker twice; mend the model, then load it again, "
    "or restart the daemon"
)


class Quarantine:
    """Who is left out, by worker."""

    def __init__(self) -> None:
        self._suspects: dict[str, str] = {}
        self._held: dict[str, dict[str, tuple[ModelUpdate, ...]]] = {}

    def died(self, worker: str, reported: Iterable[ModelUpdate]) -> str:
        """A worker died, having reported this, in order: the model that is left out from now on,
        or "" if none is."""
        loading = [update for update in reported if update.state is ModelState.LOADING]
        if not loading:
            self._suspects.pop(worker, None)
            return ""
        model = loading[0].model
        if self._suspects.get(worker) != model:
            self._suspects[worker] = model
            return ""
        del self._suspects[worker]
        self._held.setdefault(worker, {})[model] = tuple(
            msgspec.structs.replace(update, state=ModelState.UNAVAILABLE, reason=REASON)
            for update in loading if update.model == model
        )
        return model

    def held(self, worker: str) -> set[str]:
        """The models that a worker starts without."""
        return set(self._held.get(worker, ()))

    def updates(self, worker: str) -> tuple[ModelUpdate, ...]:
        """What is to be said of them, in the worker's place."""
        return tuple(
            update for updates in self._held.get(worker, {}).values() for update in updates
        )

    def lift(self, model: str) -> bool:
        """Try the model again everywhere. Whether it was left out anywhere."""
        lifted = [held.pop(model, None) is not None for held in self._held.values()]
        for worker in [name for name, suspect in self._suspects.items() if suspect == model]:
            del self._suspects[worker]
        return any(lifted)
