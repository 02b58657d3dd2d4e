"""A recording of batches as a Chrome trace, which Perfetto opens: a pure function.

One process for each device. In it one track for each lane and stage, one for the number of
batches that run, and the requests as they wait in the queue. The format:
https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

from trtserve.cli.trace_summary import STAGES, stage_intervals
from trtserve.clock import NS_PER_US

if TYPE_CHECKING:
    from trtserve.client.timeline import TracedBatch

Event = dict[str, Any]

Track = tuple[int, int, int]
"""Lane, stage, and which of several tracks of that stage."""

_TITLES = ("stage", "H2D", "compute", "D2H")

_TRACKS = 1000
"""Numbers for the tracks of one stage of one lane; there is hardly ever a second one."""
_LANES = 1000


def chrome_trace(batches: Sequence["TracedBatch"], start_ns: int) -> dict[str, Any]:
    """The whole file. Its time 0 is the recording's start, or the first arrival before it."""
    origin = min(
        [start_ns]
        + [min(batch.began_ns, batch.started_ns) for batch in batches]
        + [request.arrived_ns for batch in batches for request in batch.requests]
    )
    metadata: list[Event] = []
    events: list[Event] = []
    for pid, device in enumerate(sorted({batch.device for batch in batches}), 1):
        found = sorted(
            (batch for batch in batches if batch.device == device),
            key=lambda batch: batch.began_ns,
        )
        writer = _Device(pid, origin)
        events += writer.stages(found)
        events += writer.waits(found)
        events += writer.running(found)
        metadata += writer.metadata(device)
    # Sorting keeps the order of events of one time: a wait of no length begins before it ends.
    events.sort(key=lambda event: event["ts"])
    return {"traceEvents": metadata + events, "displayTimeUnit": "ms"}


class _Device:
    """The events of one device's batches, which come in the order of their beginnings."""

    def __init__(self, pid: int, origin: int) -> None:
        self._pid = pid
        self._origin = origin
        self._ends: dict[Track, int] = {}

    def stages(self, batches: Iterable["TracedBatch"]) -> Iterator[Event]:
        """One complete event for each stage of a batch, and a mark where one failed."""
        for batch in batches:
            for stage, (start, end) in stage_intervals(batch).items():
                if start < end:
                    yield self._event(
                        "X", _name(batch), start, tid=self._track(batch.lane, stage, start, end),
                        cat=stage, dur=(end - start) / NS_PER_US, args=_arguments(batch),
                    )
            if batch.error:
                at = batch.began_ns
                yield self._event(
                    "i", f"failed: {_name(batch)}", at, cat="error", s="t",
                    tid=self._track(batch.lane, "compute", at, at), args=_arguments(batch),
                )

    def waits(self, batches: Iterable["TracedBatch"]) -> Iterator[Event]:
        """A beginning and an end for each request that waited, once if its batch ran twice."""
        seen = set()
        for batch in batches:
            for request in batch.requests:
                name = str(request)
                if name in seen:
                    continue
                seen.add(name)
                wait = {"cat": "queue", "id": name, "tid": self._pid}
                yield self._event("b", batch.model, request.arrived_ns, **wait, args={
                    "request": name, "batch": batch.id,
                    "queue_us": (batch.started_ns - request.arrived_ns) / NS_PER_US,
                })
                yield self._event(
                    "e", batch.model, max(request.arrived_ns, batch.started_ns), **wait
                )

    def running(self, batches: Iterable["TracedBatch"]) -> Iterator[Event]:
        """How many batches are on lanes, at each change."""
        changes = []
        for batch in batches:
            end = stage_intervals(batch)["d2h"][1]
            changes += [(batch.began_ns, 1), (end, -1)]
        count = 0
        for at, group in groupby(sorted(changes), key=lambda change: change[0]):
            count += sum(change for _, change in group)
            yield self._event(
                "C", "running batches", at, tid=self._pid, args={"batches": count}
            )

    def metadata(self, device: str) -> Iterator[Event]:
        """Names and order; call it last."""
        def about(tid: int, kind: str, /, **arguments: object) -> Event:
            return {
                "ph": "M", "name": kind, "pid": self._pid, "tid": tid, "ts": 0, "args": arguments
            }

        yield about(self._pid, "process_name", name=device)
        yield about(self._pid, "process_sort_index", sort_index=self._pid)
        for track in sorted(self._ends):
            lane, stage, number = track
            more = f" ({number + 1})" if number else ""
            tid = self._tid(track)
            yield about(tid, "thread_name", name=f"lane {lane} {_TITLES[stage]}{more}")
            yield about(tid, "thread_sort_index", sort_index=tid)

    def _track(self, lane: int, stage: str, start: int, end: int) -> int:
        """The first track of a lane's stage that is free then: a track's events may not overlap."""
        number = 0
        while self._ends.get(track := (lane, STAGES.index(stage), number), 0) > start:
            number += 1
        self._ends[track] = max(end, self._ends.get(track, 0))
        return self._tid(track)

    def _tid(self, track: Track) -> int:
        """A number in the tracks' order that no other process of the trace has."""
        lane, stage, number = track
        return ((self._pid * _LANES + lane) * len(STAGES) + stage) * _TRACKS + number

    def _event(self, phase: str, name: str, at: int, **fields: Any) -> Event:
        return {
            "ph": phase, "name": name, "pid": self._pid, "ts": (at - self._origin) / NS_PER_US,
            **fields,
        }


def _name(batch: "TracedBatch") -> str:
    """Such as `det 3x320x480`: batches of one size get one colour."""
    return f"{batch.model} {_shapes(batch)}"


def _shapes(batch: "TracedBatch") -> str:
    return ", ".join("x".join(map(str, shape)) or "scalar" for shape in batch.bucket)


def _arguments(batch: "TracedBatch") -> dict[str, Any]:
    """What a click on an event shows."""
    arguments = {
        "batch": batch.id,
        "model": batch.model,
        "version": batch.version,
        "variant": batch.variant,
        "bucket": _shapes(batch),
        "rows": batch.rows,
        "padded_rows": batch.padded_rows,
        "requests": [str(request) for request in batch.requests],
        "queue_us": [
            (batch.started_ns - request.arrived_ns) / NS_PER_US for request in batch.requests
        ],
    }
    if batch.error:
        arguments["error"] = batch.error
    return arguments
