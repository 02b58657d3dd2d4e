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
from trtserve.errors import DeviceError, RequestError, Unavailable
from trtserve.ipc import message as m
from trtserve.ipc.channel import Channel
from trtserve.metrics import Recorder
from trtserve.worker.answer import answer, failed
from trtserve.worker.batcher import Batcher
from trtserve.worker.counts import record_gauges
from trtserve.worker.inline import Inline
from trtserve.worker.lane import Lane, LaneJob, LaneResult
from trtserve.worker.leases import Leases
from trtserve.worker.lending import Borrow, GiveBack, LanePool
from trtserve.worker.link import FrontEndLink
from trtserve.worker.loader import Loader
from trtserve.worker.loading import DeviceLost, LoadEvent
from trtserve.worker.models import Models
from trtserve.worker.outbox import Outbox
from trtserve.worker.output import OutputArena
from trtserve.worker.pinning import pin
from trtserve.worker.request import Batch, Request
from trtserve.worker.run import Run, blames_a_request
from trtserve.worker.runner import BatchRunner
from trtserve.worker.tracer import Tracer
from trtserve.worker.trial import Trial

log = logging.getLogger(__name__)

_HEARTBEAT_NS = NS_PER_S
_MAX_READS = 16
"""Datagrams read from one front end before the others, and the lanes, get their turn."""

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
        self._selector = selectors.DefaultSelector()
        self._links: dict[str, FrontEndLink] = {}
        self._leases = Leases(outputs)
        self._recorder = Recorder()
        self._models = Models(batcher, self._recorder)
        self._residents = self._models.residents
        self._tracer = Tracer(device.name)
        self._posted: deque[LaneResult | LoadEvent] = deque()
        self._wake_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._lanes = LanePool((), batcher)
        self._scratches: list[Scratch] = []
        self._inline: Inline | None = None
        self._running: dict[int, Run] = {}
        self._next_beat = 0
        self._outbox = Outbox(self._selector)
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
            self._refuse(request, error)
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
        return not self._running and not any(link.requests for link in self._links.values())

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
                    self._connect(peer)
                case m.Reaped(peer):
                    if peer in self._links:
                        self._lose(self._links[peer])
                case m.Poll(token):
                    self._beat(token)
                case m.Drain():
                    pass
                case m.Stop():
                    self._stopping = True
                case _:
                    log.error("unexpected on the control channel: %s", type(message).__name__)

    def _beat(self, token: int) -> None:
        self._control.send(m.Heartbeat(token, self._statistics()))
        entries = self._residents.changed_costs(self._batcher.cost)
        if entries:
            for link in self._links.values():
                link.channel.send(m.Costs(entries))

    def _statistics(self) -> m.Statistics:
        record_gauges(
            self._recorder, self._name, self._device, self._outputs.statistics(),
            self._batcher.statistics(), self._residents.versions, self._scratches,
        )
        return self._recorder.statistics()

    # --- front ends ----------------------------------------------------------------------

    def _connect(self, peer: str) -> None:
        link = FrontEndLink(peer, Channel.from_fd(self._control.take_fd()))
        if peer in self._links:
            self._lose(self._links[peer])
        self._links[peer] = link
        self._selector.register(
            link.channel, selectors.EVENT_READ, lambda: self._read_front_end(link)
        )
        link.channel.send(m.Attach(self._outputs.size), self._outputs.fd)
        for update in self._residents.updates():
            link.channel.send(update)
        if self._models.settled is not None:
            link.channel.send(m.Settled(self._models.settled))

    def _read_front_end(self, link: FrontEndLink) -> None:
        if not link.alive:
            return  # lost in this very turn: its socket may be closed
        for _ in range(_MAX_READS):
            messages = link.channel.receive()
            if messages is None:
                self._lose(link)
                return
            if not messages:
                return
            now = clock.now_ns()
            for message in messages:
                if type(message) is m.Submit:
                    self._submit(link, message, now)
                elif type(message) is m.Release:
                    for lease in message.leases:
                        self._leases.release(lease, link)
                elif type(message) is m.Cancel:
                    for number in message.ids:
                        if number in link.requests:
                            self._batcher.cancel(link.requests[number])
                elif type(message) is m.Trace:
                    self._tracer.trace(link, message.on)
                elif type(message) is m.Attach:
                    arena = link.attach()
                    link.pinned = pin(self._device, arena.address, arena.size)
                else:
                    log.error("unexpected from a front end: %s", type(message).__name__)

    def _submit(self, link: FrontEndLink, submit: m.Submit, now: int) -> None:
        request = Request(submit, link)
        try:
            if submit.variant not in self._residents.variants:
                raise Unavailable("the model was unloaded while the request was on its way")
            self._batcher.add(request, now)
        except RequestError as error:
            link.channel.send(failed((submit.id,), error))
        else:
            link.requests[submit.id] = request

    def _refuse(self, request: Request, error: RequestError) -> None:
        """Answer a request that left the queue without running."""
        link = request.owner
        link.requests.pop(request.submit.id, None)
        link.channel.send(failed((request.submit.id,), error))

    def _lose(self, link: FrontEndLink) -> None:
        """That front end is dead: forget its requests; unmap its arena once no lane reads it."""
        if not link.alive:
            return
        link.alive = False
        self._selector.unregister(link.channel)
        self._outbox.forget(link.channel)
        if self._links.get(link.peer) is link:
            del self._links[link.peer]
        self._batcher.drop_owner(link)
        self._leases.drop_reader(link)
        self._tracer.trace(link, on=False)
        link.requests.clear()
        if not link.running:
            self._close(link)

    def _close(self, link: FrontEndLink) -> None:
        if link.arena is not None and link.pinned:
            self._device.detach(link.arena.address)
        link.close()

    # --- lanes ---------------------------------------------------------------------------

    def _start(self, batch: Batch) -> None:
        """Give a batch to a free lane, or run it here if that is quicker."""
        if len(self._links) > 1:
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
            self._let_go(part, answer(part, result, self._leases, backlog_ns))
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
        self._recorder.count(
            "lane_busy_seconds", (self._device.name,),
            (result.finished_ns - run.batch.started_ns) / NS_PER_S,
        )

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
            variant.counts.batch(run.part, result)
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
                self._close(link)

    # --- models --------------------------------------------------------------------------

    def _loader_event(self, event: LoadEvent) -> None:
        if isinstance(event, Borrow):
            self._lanes.borrow(event)
        elif isinstance(event, GiveBack):
            self._lanes.give_back(event.lane)
        elif isinstance(event, DeviceLost):
            self._lose_device(event.error)
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
        for link in self._links.values():
            link.channel.send(message)

    def _send_all(self) -> None:
        """Send what is queued."""
        self._outbox.send(self._control)
        for link in self._links.values():
            self._outbox.send(link.channel)
