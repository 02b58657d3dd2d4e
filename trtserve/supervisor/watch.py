"""A thread that watches the repository and says which models to load and unload.

Events are hints to look at once; a look at everything, now and then too, is the truth.
"""

import logging
import os
import select
import signal
import threading
from collections import deque
from collections.abc import Callable

from trtserve import clock
from trtserve.clock import NS_PER_S
from trtserve.model.layout import model_folders
from trtserve.supervisor.fingerprint import Fingerprint, being_written, fingerprint
from trtserve.supervisor.inotify import Inotify
from trtserve.supervisor.settling import Settling, Wish

_log = logging.getLogger(__name__)

_REST_SECONDS = 0.1
"""Between two looks, however many events come."""


class Watch:
    """A context manager for the main thread. `begin` looks once; `start` begins the thread.

    `take` gives what was decided since, to the supervisor's loop, which `wake` wakes.
    """

    def __init__(
        self, repository: str, poll_seconds: float, settle_seconds: float,
        wake: Callable[[], None],
    ) -> None:
        self._root = os.path.abspath(repository)
        self._poll_seconds = poll_seconds
        self._settling = Settling(settle_seconds)
        self._wake = wake
        self._wishes: deque[Wish] = deque()
        self._again: deque[str] = deque()
        self._bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._closing = False
        self._inotify: Inotify | None = None
        self._complaint = ""
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)

    def __enter__(self) -> "Watch":
        # A lease on a file, which lasts an instant, would end the process where somebody opens
        # the file in that instant.
        signal.signal(signal.SIGIO, signal.SIG_IGN)
        try:
            self._inotify = Inotify()
        except OSError as error:
            _log.warning("no file-system events, the repository is looked at every %g s: %s",
                         self._poll_seconds, error)
        return self

    def begin(self) -> tuple[dict[str, str], list[str]]:
        """The folders of the models to start with, and the names of those that are being changed
        just now and follow. Raises OSError where the repository can not be read."""
        seen = self._look(model_folders(self._root))
        settled = self._settling.begin(seen, clock.unix_ns(), self._busy)
        folders = {name: self.folder(name) for name in settled}
        return folders, [name for name in seen if name not in folders]

    def folder(self, model: str) -> str:
        """A model's folder in the repository."""
        return os.path.join(self._root, model)

    def start(self) -> None:
        """Begin to watch."""
        self._thread.start()

    def take(self) -> list[Wish]:
        """What was decided since the last call, in order. From the loop's thread."""
        taken = []
        while self._wishes:
            taken.append(self._wishes.popleft())
        return taken

    def same(self, wish: Wish) -> bool:
        """Whether a model's folder is still as it was when the wish was made, and nobody writes
        to it. From any thread."""
        return fingerprint(self.folder(wish.model)) == wish.fingerprint and not self._busy(
            wish.model
        )

    def again(self, model: str) -> None:
        """The model's folder changed while it was being loaded: wish once more when it has
        settled. From any thread."""
        self._again.append(model)
        os.eventfd_write(self._bell, 1)

    def turn(self, now: int) -> None:
        """Look once, and say what is to be done: what the thread does again and again."""
        while self._again:
            self._settling.forget(self._again.popleft())
        if self._inotify is not None:
            self._inotify.drain()
        try:
            folders = model_folders(self._root)
        except OSError as error:
            # A mount that is away for a moment is no wish to unload everything.
            if self._complaint != str(error):
                _log.warning("the repository can not be read, nothing is changed: %s", error)
            self._complaint = str(error)
            return
        self._complaint = ""
        wishes = self._settling.look(self._look(folders), now, self._busy)
        if wishes:
            self._wishes.extend(wishes)
            self._wake()

    def __exit__(self, *_: object) -> None:
        self._closing = True
        os.eventfd_write(self._bell, 1)
        if self._thread.is_alive():
            self._thread.join()
        os.close(self._bell)
        if self._inotify is not None:
            self._inotify.close()

    def _run(self) -> None:
        while not self._closing:
            try:
                self.turn(clock.now_ns())
            except Exception:  # a watch that ends in silence would be worse
                _log.exception("the repository can not be looked at; it is tried again")
            self._wait()

    def _look(self, folders: dict[str, str]) -> dict[str, Fingerprint]:
        """Each model's fingerprint. From now on events come from all that was seen: what changes
        in a new folder before that is seen by the look that follows once it has settled."""
        seen = {model: fingerprint(folder) for model, folder in folders.items()}
        if self._inotify is not None:
            inner = [path for found in seen.values() for path in found.folders]
            self._inotify.watch([self._root, *inner])
        return seen

    def _busy(self, model: str) -> bool:
        return bool(being_written(self.folder(model)))

    def _wait(self) -> None:
        """Until something may have changed, or settled."""
        patience = self._poll_seconds
        wake = self._settling.wake_ns(clock.now_ns())
        if wake is not None:
            patience = min(patience, max(0, wake - clock.now_ns()) / NS_PER_S)
        # Events of one copy come by the thousand; the bell is for those who can not wait.
        select.select([self._bell], [], [], min(_REST_SECONDS, patience))
        waited: list[int | Inotify] = [self._bell]
        if self._inotify is not None:
            waited.append(self._inotify)
        select.select(waited, [], [], patience)
        try:
            os.eventfd_read(self._bell)
        except BlockingIOError:
            pass
