"""Models that come and go while the daemon serves: who asked, what workers are told, who hears.

The decisions are made elsewhere: the steps of a change (change.py), what workers should have
(desired.py), whom to leave out (quarantine.py), when a folder is ready (settling.py). One model's
changes follow one another; those of different models go side by side.
"""

import logging
import os
from collections import deque

from trtserve.clock import NS_PER_S
from trtserve.config import Settings
from trtserve.errors import ProtocolError
from trtserve.ipc.message import (
    AnyMessage,
    ControlReply,
    ControlRequest,
    Freed,
    Staged,
    Wanted,
)
from trtserve.model.layout import model_folders
from trtserve.supervisor.change import Change, Step, Tell
from trtserve.supervisor.crew import Crew
from trtserve.supervisor.desired import Desired, Models
from trtserve.supervisor.job import Asker, Confirmation, Job, Watcher
from trtserve.supervisor.post import Post
from trtserve.supervisor.quarantine import REASON, Quarantine
from trtserve.supervisor.role import Kind
from trtserve.supervisor.scratch import Scratch
from trtserve.supervisor.settling import Wish

_log = logging.getLogger(__name__)

FREE_PATIENCE_NS = 60 * NS_PER_S
"""How long the next change of a model waits for what the last one replaced to be freed."""


class ModelControl:
    """All changes of one daemon. `turn` is called after everything that was heard.

    `confirmations` are answers for which the loop begins a round of polls and then calls
    `confirmed`.
    """

    def __init__(
        self, settings: Settings, crew: Crew, scratch: Scratch, desired: Desired,
        watch: Watcher | None = None,
    ) -> None:
        self._repository = settings.repository
        self._explicit = settings.model_control_mode == "explicit"
        self._crew = crew
        self._scratch = scratch
        self._watch = watch
        self._desired = desired
        self._quarantine = Quarantine()
        self._jobs: dict[str, deque[Job]] = {}
        self._orders = 0
        self._wanted = self._now_wanted()
        self._stopping = False
        self.confirmations: deque[Confirmation] = deque()

    @property
    def counted(self) -> frozenset[str] | None:
        """The models that readiness counts; None: all."""
        return self._desired.counted

    def models(self, post: Post) -> Models | None:
        """What the next worker in a post loads when it starts."""
        held = self._quarantine.held(post.role.name)
        return self._desired.models(held, self._folders() if held else {})

    # --- what is heard -------------------------------------------------------------------

    def heard(self, post: Post, message: AnyMessage) -> None:
        """Something that a child said."""
        match message:
            case ControlRequest():
                self._asked(post, message)
            case Staged(order=order):
                for change in self._changes(order):
                    change.staged(post.role.name, message)
            case Freed(order=order):
                for change in self._changes(order):
                    change.freed(post.role.name)

    def died(self, post: Post) -> None:
        """A child is dead and reaped, and not replaced yet."""
        name = post.role.name
        if post.role.kind is not Kind.WORKER:
            return
        heads = [queue[0].change for queue in self._jobs.values()]
        # Workers load one model after the other, in the order of orders.
        at = min((head.order for head in heads if head.loads_on(name)), default=None)
        for head in heads:
            head.left(name, blamed=post.had_settled and at in (None, head.order))
        model = self._quarantine.died(name, post.unfinished)
        if model:
            _log.error("model %s is left out on %s: %s", model, name, REASON)
        post.leave_out(self._quarantine.updates(name))
        self._tell_wanted()

    def started(self, post: Post) -> None:
        """A process plays a role again, or for the first time."""
        if post.role.kind is Kind.FRONT_END:
            self._crew.tell(post, self._wanted)
            return
        for queue in self._jobs.values():
            self._tell(queue[0].change.joined(post.role.name))

    def stop(self) -> None:
        """The daemon is stopping: whoever waits is told so. What was begun goes on, and nothing
        else begins."""
        self._stopping = True
        for queue in self._jobs.values():
            for job in queue:
                self._answer(job.asker, "unavailable", "the server is shutting down")
                job.asker = None

    # --- what is done --------------------------------------------------------------------

    def turn(self, now: int) -> None:
        """Take every change as far as it can go."""
        if self._watch is not None and not self._stopping:
            for wish in self._watch.take():
                self._wished(wish)
        for model, queue in list(self._jobs.items()):
            while queue and self._advance(queue[0], now):
                queue.popleft()
            if not queue:
                del self._jobs[model]

    def wake_ns(self) -> int | None:
        """When something is due by itself."""
        due = [queue[0].until_ns for queue in self._jobs.values() if queue[0].until_ns]
        return min(due, default=None)

    def confirmed(self, confirmation: Confirmation) -> bool:
        """A round of polls is over. False: it takes another."""
        confirmation.rounds -= 1
        if confirmation.rounds:
            return False
        change = confirmation.change
        if change.folder is not None and not change.error and (
            self._desired.folder(change.model) == change.folder
        ):
            self._desired.count(change.model)
            self._tell_wanted()
        self._answer(confirmation.asker, confirmation.word, confirmation.message)
        return True

    # --- inside --------------------------------------------------------------------------

    def _changes(self, order: int) -> list[Change]:
        """The change of that number, unless it is over."""
        heads = [queue[0].change for queue in self._jobs.values()]
        return [change for change in heads if change.order == order]

    def _known(self, model: str) -> bool:
        """Whether a model serves, is about to, or has failed to."""
        told = (key[0] for post in self._crew.of(Kind.WORKER) for key in post.models)
        return (
            self._desired.folder(model) is not None or model in self._jobs or model in {*told}
        )

    def _asked(self, post: Post, request: ControlRequest) -> None:
        """A front end's request: refused at once, or queued."""
        child = post.child
        if child is None:
            return
        asker = Asker(post, child.pid, request.token)
        fd = None
        try:
            fd = child.control.take_fd() if request.files else None
            if self._stopping:
                self._answer(asker, "unavailable", "the server is shutting down")
            elif not self._explicit:
                self._answer(asker, "unimplemented", "models do not come and go by calls here")
            elif request.load:
                self._load_asked(asker, request, fd)
            elif not self._known(request.model):
                self._answer(asker, "not_found", f"model '{request.model}' is not loaded")
            else:
                self._queue(request.model, None, asker=asker)
        except ProtocolError as error:
            _log.error("what came with a load of model %s is not there: %s", request.model, error)
            self._answer(asker, "control", "the server can not keep what came with the load")
        finally:
            if fd is not None:
                os.close(fd)

    def _load_asked(self, asker: Asker, request: ControlRequest, fd: int | None) -> None:
        model = request.model
        try:
            there = self._folders()
            source = there.get(model)
            if source is None and not request.files:
                names = ", ".join(there) or "none"
                self._answer(
                    asker, "not_found",
                    f"the repository has no model '{model}'; models there: {names}",
                )
                return
            folder = source
            if request.files or request.config:
                folder = self._scratch.place(source, request.config, request.files, fd)
        except (OSError, ProtocolError) as error:
            _log.error("what came with a load of model %s can not be kept: %s", model, error)
            self._answer(asker, "control", "the server can not keep what came with the load")
            return
        self._queue(model, folder, asker=asker)

    def _wished(self, wish: Wish) -> None:
        """The repository has changed. What was wished for before and has not begun is no news."""
        jobs = deque(
            job for job in self._jobs.pop(wish.model, ())
            if job.wish is None or job.change.step is not Step.WAITING
        )
        if jobs:
            self._jobs[wish.model] = jobs
        if wish.fingerprint is not None:
            folder = os.path.join(os.path.abspath(self._repository), wish.model)
            self._queue(wish.model, folder, wish=wish)
        elif self._known(wish.model):
            self._queue(wish.model, None, wish=wish)
        else:
            self._desired.discount(wish.model)
            self._tell_wanted()

    def _queue(
        self, model: str, folder: str | None, *, asker: Asker | None = None,
        wish: Wish | None = None,
    ) -> None:
        self._orders += 1
        job = Job(Change(self._orders, model, folder), asker, wish)
        self._jobs.setdefault(model, deque()).append(job)

    def _advance(self, job: Job, now: int) -> bool:
        """Take one change as far as it goes now. Whether it is over."""
        change = job.change
        if change.step is Step.WAITING and not self._stopping:
            self._begin(job, now)
        if change.answered:
            self._decide(job, now)
        if change.folder is None and not job.concluded and self._is_gone(change):
            self._conclude(job, now)
        if change.step is Step.FREEING and job.concluded and now >= job.until_ns:
            _log.warning("model %s: what was replaced is not freed after %d s", change.model,
                         FREE_PATIENCE_NS // NS_PER_S)
            change.give_up()
        if change.step is Step.DONE:
            self._scratch.remove(change.folder if change.error else job.replaced)
            return True
        return False

    def _begin(self, job: Job, now: int) -> None:
        """Ask the workers, once those that are being restarted are back."""
        change = job.change
        posts = self._crew.of(Kind.WORKER)
        if any(post.child is None and not post.hopeless for post in posts):
            return
        names = [post.role.name for post in posts if post.child is not None]
        if not names and change.folder is not None:
            if job.wish is not None:
                return  # the folder is there all the time, and nobody waits for an answer
            change.fail("no worker process runs", by_chance=True)
            change.give_up()
            self._conclude(job, now)
            return
        self._tell(change.begin(names))
        if change.folder is None:
            job.replaced = self._desired.folder(change.model)
            self._desired.switched(change.model, None)
            self._desired.discount(change.model)
            self._lift(change.model)
            self._tell_wanted()

    def _is_gone(self, change: Change) -> bool:
        """Whether every worker has told that it serves the model no more. One that is busy
        loading takes its time for that."""
        if change.step is Step.DONE:
            return True
        posts = self._crew.of(Kind.WORKER)
        return change.step is Step.FREEING and not any(
            key[0] == change.model for post in posts for key in post.models
        )

    def _decide(self, job: Job, now: int) -> None:
        """Every worker has answered: switch, or let go."""
        change = job.change
        if self._is_outdated(job):
            change.fail("its folder changed while it was being loaded; it is tried again")
            self._wish_again(job)
        elif change.by_chance:
            self._wish_again(job)
        orders = change.decide()
        if not change.error:
            job.replaced = self._desired.folder(change.model)
            self._desired.switched(change.model, change.folder)
            if job.replaced == change.folder:
                job.replaced = None
            # Before the order: its updates come after what the model was left out with.
            self._lift(change.model)
        self._tell(orders)
        self._conclude(job, now)

    def _is_outdated(self, job: Job) -> bool:
        """Whether the folder has changed since the watch wished for its load."""
        return not (job.wish is None or self._watch is None or self._watch.same(job.wish))

    def _wish_again(self, job: Job) -> None:
        """Have the watch wish once more for a load, unless it has since."""
        newer = any(other.wish is not None for other in list(self._jobs[job.change.model])[1:])
        if job.wish is not None and self._watch is not None and not newer:
            self._watch.again(job.wish.model)

    def _conclude(self, job: Job, now: int) -> None:
        """It is decided: log it, and have it answered once everybody knows."""
        change = job.change
        job.concluded = True
        job.until_ns = now + FREE_PATIENCE_NS
        verb = "loaded" if change.folder is not None else "unloaded"
        if change.error:
            where = f"{change.where}: " if change.where else ""
            _log.warning("model %s is not %s: %s%s", change.model, verb, where, change.error)
            message = f"model '{change.model}' is not {verb}: {change.error}"
            if self._serves(change.model):
                message += ". What served before serves on"
            word = "unavailable" if change.by_chance else "control"
            confirmation = Confirmation(change, job.asker, word, message)
        else:
            _log.info("model %s is %s", change.model, verb)
            confirmation = Confirmation(change, job.asker, "", "")
        job.asker = None
        self.confirmations.append(confirmation)

    def _serves(self, model: str) -> bool:
        """Whether any version of a model is ready on some worker."""
        return any(
            key[0] == model and update.state == "READY"
            for post in self._crew.of(Kind.WORKER) for key, update in post.models.items()
        )

    def _lift(self, model: str) -> None:
        """Leave a model out no more."""
        if self._quarantine.lift(model):
            for post in self._crew.of(Kind.WORKER):
                post.leave_out(self._quarantine.updates(post.role.name))
            self._tell_wanted()

    def _tell(self, orders: list[Tell]) -> None:
        posts = {post.role.name: post for post in self._crew.of(Kind.WORKER)}
        for order in orders:
            self._crew.tell(posts[order.worker], order.message)

    def _now_wanted(self) -> Wanted:
        """What front ends should know."""
        counted = self._desired.counted
        return Wanted(
            None if counted is None else tuple(sorted(counted)),
            tuple(
                (post.role.name, update)
                for post in self._crew.of(Kind.WORKER)
                for update in self._quarantine.updates(post.role.name)
            ),
        )

    def _tell_wanted(self) -> None:
        """Tell front ends what should serve, if that has changed."""
        wanted = self._now_wanted()
        if wanted != self._wanted:
            self._wanted = wanted
            self._crew.tell_all(self._crew.of(Kind.FRONT_END), wanted)

    def _answer(self, asker: Asker | None, word: str, message: str) -> None:
        if asker is not None and asker.post.child is not None and asker.post.child.pid == asker.pid:
            self._crew.tell(asker.post, ControlReply(asker.token, word, message))

    def _folders(self) -> dict[str, str]:
        """What the repository holds; nothing where it can not be read."""
        try:
            return model_folders(self._repository)
        except OSError as error:
            _log.error("the repository can not be read: %s", error)
            return {}
