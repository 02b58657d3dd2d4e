"""A recording of batches in figures: pure functions.

A stage keeps its engine busy from its start to its end; where lanes wait for one another, the
union over all lanes is still the time in which that engine had work.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from trtserve.cli.intervals import Interval, Span, intersection, length, union

if TYPE_CHECKING:
    from trtserve.client.timeline import TracedBatch

STAGES = ("stage", "h2d", "compute", "d2h")
"""The four stages, in their order."""


@dataclass(frozen=True, slots=True)
class DeviceSummary:
    """One device during a recording. Shares are 0 to 1.

    `padded` is the share of the rows that ran which nobody had asked for. The three `..._busy`
    are shares of the recording's time in which at least one lane was in that stage.
    `copies_hidden` is the share of the time spent on copies, in both directions, in which
    another batch computed; None where nothing was copied.
    """

    device: str
    batches: int
    failed: int
    requests: int
    rows: int
    padded: float
    copy_in_busy: float
    compute_busy: float
    copy_out_busy: float
    copies_hidden: float | None


def stage_intervals(batch: "TracedBatch") -> dict[str, Interval]:
    """When each stage of a batch was, in nanoseconds."""
    found = {}
    end = batch.began_ns
    for name, duration in zip(
        STAGES, (batch.stage_ns, batch.h2d_ns, batch.compute_ns, batch.d2h_ns), strict=True
    ):
        start, end = end, end + duration
        found[name] = (start, end)
    return found


def gathers_itself(device: str) -> bool:
    """Whether a device shares the host's memory: then nothing is copied to it, and gathering
    the inputs (the stage `stage`) is what stands in the place of that."""
    return device == "cpu"


def summarize(
    batches: Iterable["TracedBatch"], start_ns: int, end_ns: int
) -> list[DeviceSummary]:
    """Each device's figures, over what it did between the two times."""
    by_device: dict[str, list[TracedBatch]] = {}
    for batch in batches:
        by_device.setdefault(batch.device, []).append(batch)
    return [
        _device(device, found, (start_ns, end_ns)) for device, found in sorted(by_device.items())
    ]


def hidden_share(copies: Span, compute: Span) -> float | None:
    """The share of the copies' time that lies in the computations' time; None without copies.

    A batch computes between its own two copies and never during them, so what computes during a
    copy is always another batch.
    """
    whole = length(copies)
    return length(intersection(copies, compute)) / whole if whole else None


def _device(device: str, batches: Sequence["TracedBatch"], window: Interval) -> DeviceSummary:
    stages = [stage_intervals(batch) for batch in batches]
    inside = [window] if window[0] < window[1] else []

    def busy(name: str) -> Span:
        return intersection(union(found[name] for found in stages), inside)

    copy_in = busy("stage" if gathers_itself(device) else "h2d")
    compute, copy_out = busy("compute"), busy("d2h")
    ran = _sum(batches, lambda batch: batch.padded_rows)
    rows = _sum(batches, lambda batch: batch.rows)
    return DeviceSummary(
        device=device,
        batches=len(batches),
        failed=_sum(batches, lambda batch: batch.error != ""),
        requests=len({str(request) for batch in batches for request in batch.requests}),
        rows=rows,
        padded=(ran - rows) / ran if ran else 0.0,
        copy_in_busy=_share(copy_in, inside),
        compute_busy=_share(compute, inside),
        copy_out_busy=_share(copy_out, inside),
        copies_hidden=hidden_share(union([*copy_in, *copy_out]), compute),
    )


def _sum(batches: Iterable["TracedBatch"], number: Callable[["TracedBatch"], int]) -> int:
    return sum(number(batch) for batch in batches)


def _share(part: Span, whole: Span) -> float:
    return length(part) / length(whole) if whole else 0.0
