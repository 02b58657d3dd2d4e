"""How much of the copying lies under other batches' computing. Pure."""

from collections.abc import Sequence

from trtserve.cli.intervals import Interval, intersection, length, union
from trtserve.ipc.recording import TracedBatch


def overlap(batches: Sequence[TracedBatch]) -> dict[str, float]:
    """Shares of the copies' time, in and out and both, that is hidden, and of the whole time
    that something computes and something copies.

    A batch computes between its own two copies, so whatever computes during a copy is another
    batch. Where host and device share memory, gathering takes the place of the copy in.
    """
    into: list[Interval] = []
    compute: list[Interval] = []
    out: list[Interval] = []
    for batch in batches:
        staged = batch.began_ns + batch.stage_ns
        gathered = staged + batch.h2d_ns
        computed = gathered + batch.compute_ns
        into.append((staged if batch.h2d_ns else batch.began_ns, gathered))
        compute.append((gathered, computed))
        out.append((computed, computed + batch.d2h_ns))
    busy = union(compute)
    both = union(into + out)
    whole = union(into + compute + out)
    wall = whole[-1][1] - whole[0][0] if whole else 0

    def share(copies: Sequence[Interval]) -> float:
        span = union(copies)
        return length(intersection(span, busy)) / length(span) if span else 0.0

    return {
        "hidden_share": share(both), "hidden_in_share": share(into),
        "hidden_out_share": share(out),
        "compute_busy": length(busy) / wall if wall else 0.0,
        "copy_busy": length(both) / wall if wall else 0.0,
    }
