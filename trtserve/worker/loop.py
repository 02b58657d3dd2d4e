"""The worker's loop: one thread that reads messages, asks the batcher, feeds lanes, answers.

It decides nothing itself: the batcher does. Lanes and the loader run in threads of their own
and post what they have to say; an eventfd wakes the loop for it.
"""

import logging
import os
import selectors
from collections import deque
from collections.abc import Iterable, Sequence

from trtserve import clock
from trtserve.clock import NS_PER_S
from trtserve.device.interface import Device
from trtserve.engine.scratch import Scratch
from trtserve.errors import DeviceError
from trtserve.ipc import message as m
from trtserve.ipc.channel import Channel
from trtserve.ipc.statistics import Statistics
from trtserve.metrics import Recorder
from trtserve.worker.answer import answer
from trtserve.worker.batcher import Batcher
from trtserve.worker.changes import Changes
from trtserve.worker.counts import record_gauges
from trtserve.worker.device_counts import DeviceCounts
from trtserve.worker.front_ends import FrontEnds
from trtserve.worker.inline import Inline
from trtserve.worker.lag import MeasuredSelector
from trtserve.worker.lane import Lane, LaneJob, LaneResult
from trtserve.worker.lending import Borrow, GiveBack, LanePool
from trtserve.worker.link import FrontEndLink
from trtserve.worker.loader import Loader
from trtserve.worker.loading import ChangeEvent, DeviceLost, LoadEvent
from trtserve.worker.models import Models
from trtserve.worker.outbox import Outbox
from trtserve.worker.output import OutputArena
from trtserve.worker.request import Batch
from trtserve.worker.run import Run, blames_a_request
from trtserve.worker.runner import BatchRunner
from trtserve.worker.tracer import Tracer
from trtserve.worker.trial import Trial

log = logging.getLogger(__name__)

_HEARTBEAT_NS = NS_PER_S
EXIT_DEVICE_LOST = 70
"""The exit status after a sticky device error."""


class WorkerLoop:
    """One worker. `run` returns the process's exit status."""

    def __init__(
        self, control: Channel, name: str, device: Device, outputs: OutputArena, batcher: Batcher
    ) -> None:
        self._control = control
        self._name = name
        self._device = device
        self._outputs = outputs
        self._batcher = batcher
        self._recorder = Recorder()
        self._selector = MeasuredSelector(self._recorder.histogram("loop_lag_seconds", (name,)))
        self._device_counts = DeviceCounts(self._recorder, device.name, unified=device.unified)
        self._models = Models(batcher, self._recorder)
        self._residents = self._models.residents
        self._tracer = Tracer(device.name)
        self._outbox = Outbox(self._selector)
        self._front_ends = FrontEnds(
            device, outputs, batcher, self._models, self._tracer, self._selector, self._outbox
        )
        self._changes = Changes(
            self._models, batcher, device, self._front_ends, self._tell, control.send
        )
        self._posted: deque[LaneResult | LoadEvent] = deque()
        self._wake_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._lanes = LanePool((), batcher)
        self._scratches: list[Scratch] = []
        self._inline: Inline | None = None
        self._running: dict[int, Run] = {}
        self._next_beat = 0
        self._exit: int | None = None
        self._stopping = False

    def post(self, event: LaneResult | LoadEvent) -> None:
        """Tell the loop something, from any thread."""
        self._posted.append(event)
        os.eventfd_write(self._wake_fd, 1)

    def open(self, lanes: Sequence[Lane], inline: BatchRunner | None, loader: Loader) -> None:
        """Take the lanes, all started, and let the loader begin.

        `inline` runs short batches in this thread; its index is the one after the lanes'.
        """
        self._lanes = LanePool(lanes, self._batcher)
        self._inline = Inline(inline, self._batcher.estimate) if inline is not None else None
        self._scratches = [lane.runner.scratch for lane in lanes]
        self._models.open(loader)
        self._changes.open(loader)
        self._device.enter_thread()
        self._selector.register(self._control, selectors.EVENT_READ, self._read_control)
        self._selector.register(self._wake_fd, selectors.EVENT_READ, self._read_wake)
        loader.start(self.post)

    def run(self) -> int:
        """Serve until the supervisor says Stop, or dies, or the device is lost."""
        try:
            while self._exit is None:
                self.turn()
        except DeviceError as error:
            self._lose_device(error)
        finally:
            self._send_all()
        return EXIT_DEVICE_LOST if self._exit is None else self._exit

    def turn(self) -> None:
        """Wait for something to do, and do it."""
        for key, _ in self._selector.select(self._patience()):
            key.data()
        while self._posted and self._exit is None:
            event = self._posted.popleft()
            if isinstance(event, LaneResult):
                self._lane_done(event)
            else:
                self._loader_event(event)
        now = clock.now_ns()
        while self._exit is None and (batch := self._batcher.next_batch(now)) is not None:
            self._start(batch)
        if self._exit is not None:
            return  # the device is lost: nothing may call it any more
        for request, error in self._batcher.take_dropped():
            self._front_ends.refuse(request, error)
        self._changes.drain()
        if now >= self._next_beat:
            self._next_beat = now + _HEARTBEAT_NS
            self._beat(0)
        if self._tracer.on:
            self._tracer.flush()
        self._send_all()
        if self._stopping and self._served:
            self._exit = 0

    @property
    def _served(self) -> bool:
        """Whether nothing runs or waits. What waits may do so without any batch that runs: for a
        lane that the loader has."""
        return not self._running and not self._front_ends.waiting

    def _patience(self) -> float:
        """Seconds that the loop may sleep."""
        if self._posted:
            return 0.0
        now = clock.now_ns()
        wake = self._batcher.wakeup(now)
        until = self._next_beat if wake is None else min(wake, self._next_beat)
        return max(0, until - now) / NS_PER_S

    # --- the supervisor ------------------------------------------------------------------

    def _read_wake(self) -> None:
        os.eventfd_read(self._wake_fd)

    def _read_control(self) -> None:
        messages = self._control.receive()
        if messages is None:
            # The supervisor is dead: nothing may outlive it.
            os._exit(1)
        for message in messages:
            match message:
                case m.Connect(peer):
                    self._front_ends.connect(peer, Channel.from_fd(self._control.take_fd()))
                case m.Reaped(peer):
                    self._front_ends.reaped(peer)
                case m.Poll(token):
                    # The answer means that front ends were told all that came before it.
                    self._front_ends.send()
                    self._beat(token)
                case m.Drain():
                    pass
                case m.Trace(on):
                    self._tracer.trace_patiently(self._control, on)
                case m.Stop():
                    self._stopping = True
                case m.LoadModel() | m.CommitModel() | m.AbandonModel() | m.UnloadModel():
                    self._changes.order(message, clock.now_ns())
                case _:
                    log.error("unexpected on the control channel: %s", type(message).__name__)

    def _beat(self, token: int) -> None:
        if self._tracer.on:
            self._tracer.beat()
        self._control.send(m.Heartbeat(token, self._statistics()))
        entries = self._residents.changed_costs(self._batcher.cost, clock.now_ns())
        if entries:
            self._front_ends.tell(m.Costs(entries))

    def _statistics(self) -> Statistics:
        record_gauges(
            self._recorder, self._name, self._device, self._outputs.statistics(),
            self._batcher.statistics(), self._residents.versions, self._scratches,
        )
        return self._recorder.statistics()

    # --- lanes ---------------------------------------------------------------------------

    def _start(self, batch: Batch) -> None:
        """Give a batch to a free lane, or run it here if that is quicker."""
        if len(self._front_ends) > 1:
            # Each front end's requests lie together in the outputs.
            batch.requests.sort(key=lambda request: request.owner.peer)
        run = Run(batch, self._lanes.take())
        self._running[batch.id] = run
        inline = self._inline
        if inline is not None and inline.takes(batch):
            self._lane_done(inline.run(batch, self._job(batch, inline.index)))
        else:
            run.lane.submit(self._job(batch, run.lane.index))

    def _job(self, part: Batch, lane: int) -> LaneJob:
        """What a lane needs to run these requests, whose front ends' arenas stay mapped."""
        for link in {request.owner for request in part.requests}:
            link.running += 1
        return self._residents.job(part, lane)

    def _lane_done(self, result: LaneResult) -> None:
        """Answer what a lane has run; run the next part, or free the lane."""
        run = self._running[result.batch_id]
        part, error = run.part, result.error
        if isinstance(error, DeviceError) and error.sticky:
            self._lose_device(error)
            return
        if self._tracer.on:
            self._trace(run, result)
        if run.whole and self._take_apart(run, result):
            self._let_go(part)
        else:
            run.compare(result, self._outputs.view)
            backlog_ns = self._batcher.backlog_ns()
            self._let_go(part, answer(part, result, self._front_ends.leases, backlog_ns))
            self._send_all()  # first the answers, then the accounts
            self._account(run, result)
        single = run.next_part()
        if single is not None:
            run.lane.submit(self._job(single, run.lane.index))
            return
        if run.trial is not None:
            self._residents.judge(part.variant, run.trial.passed, self._batcher)
        del self._running[result.batch_id]
        self._lanes.put(run.lane)
        self._batcher.finished(run.batch, result.finished_ns, run.service_ns)
        self._models.ran(run.batch, result.finished_ns)
        others = [other.batch.started_ns for other in self._running.values()]
        self._device_counts.freed(run.batch.started_ns, result.finished_ns, others)

    def _take_apart(self, run: Run, result: LaneResult) -> bool:
        """Whether the requests of a batch that ran must be run one by one before answering."""
        if result.error is not None:
            if blames_a_request(result.error):
                run.split(None)
                return True
            return False
        if run.part.variant not in self._residents.unproven:
            return False
        run.service_ns = result.service_ns
        variant = self._residents.variants[run.part.variant]
        run.split(Trial(variant.spec, result.outputs, self._outputs.view))
        for block in result.blocks:
            self._outputs.free(block)
        return True

    def _account(self, run: Run, result: LaneResult) -> None:
        """Count what was answered, and learn from it."""
        variant = self._residents.variants.get(run.part.variant)
        if result.error is None and variant is not None:
            variant.counts.batch(run.part, result, variant.spec.name)
            self._device_counts.batch(run.part, result)
            if run.part is run.batch:
                run.service_ns = result.service_ns

    def _trace(self, run: Run, result: LaneResult) -> None:
        """Note a batch for those who asked."""
        variant = self._residents.variants.get(run.part.variant)
        if variant is not None:
            self._tracer.note(run.part, variant, result, result.padded)

    def _let_go(self, part: Batch, links: Iterable[FrontEndLink] | None = None) -> None:
        """No lane reads these requests any more: unmap the arenas of the dead."""
        for link in links or {request.owner for request in part.requests}:
            link.running -= 1
            if not link.alive and not link.running:
                self._front_ends.close(link)

    # --- models --------------------------------------------------------------------------

    def _loader_event(self, event: LoadEvent) -> None:
        if isinstance(event, Borrow):
            self._lanes.borrow(event)
        elif isinstance(event, GiveBack):
            self._lanes.give_back(event.lane)
        elif isinstance(event, DeviceLost):
            self._lose_device(event.error)
        elif isinstance(event, ChangeEvent):
            self._changes.heard(event, clock.now_ns())
        else:
            message = self._models.heard(event, clock.now_ns())
            if message is not None:
                self._tell(message)

    def _lose_device(self, error: DeviceError) -> None:
        """Nothing can run on this device any more. The process ends; the front ends send what is
        in flight again, to the next worker or to another device."""
        log.error("the device is lost: %s", error)
        self._recorder.count("device_errors", (self._device.name, error.name or "unknown"))
        # What was counted must outlive this process. Memory can not be asked for any more.
        self._control.send(m.Heartbeat(0, self._recorder.statistics()))
        self._exit = EXIT_DEVICE_LOST

    def _tell(self, message: m.AnyMessage) -> None:
        """Tell the supervisor and every front end."""
        self._control.send(message)
        self._front_ends.tell(message)

    def _send_all(self) -> None:
        """Send what is queued."""
        self._outbox.send(self._control)
        self._front_ends.send()
