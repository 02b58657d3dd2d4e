"""The workers that serve a version: which of them could take a request, and which one gets it."""

from collections.abc import Mapping

from trtserve.errors import Overloaded
from trtserve.frontend.choice import UNMEASURED_NS, Candidate, first_to_finish
from trtserve.frontend.link import WorkerLink
from trtserve.model.catalog import Placement, Version
from trtserve.model.route import Route

Serving = list[tuple[WorkerLink, Placement]]


def serving(version: Version, route: Route, links: Mapping[str, WorkerLink]) -> Serving:
    """Those that live and serve the variant of a route."""
    found: Serving = []
    for placement in version.serving():
        link = links.get(placement.worker)
        # A device may not have taken all engine files.
        there = route.variant < len(placement.variant_ids)
        if there and link is not None and link.alive:
            found.append((link, placement))
    return found


def knock(there: Serving, route: Route, deadline_ns: int, now: int) -> None:
    """Raise Overloaded, with when the first may have room, if all would refuse a request."""
    refusals = [_refusal(pair, route, deadline_ns, now) for pair in there]
    known = [refusal for refusal in refusals if refusal is not None]
    if known and len(known) == len(refusals):
        raise min(known, key=lambda refusal: refusal.retry_after_ms or 0)


def with_room(there: Serving, route: Route, deadline_ns: int, now: int) -> Serving:
    """Those that would not refuse a request, as far as is known; all if each would."""
    return [
        pair for pair in there if _refusal(pair, route, deadline_ns, now) is None
    ] or there


def _refusal(
    pair: tuple[WorkerLink, Placement], route: Route, deadline_ns: int, now: int
) -> Overloaded | None:
    link, placement = pair
    kind = placement.variant_ids[route.variant], route.bucket
    return link.door.refusal(kind, route.rows, deadline_ns, now)


def lend_to_one(
    version: Version, route: Route, there: Serving, now: int
) -> tuple[WorkerLink, Placement, int]:
    """Of several workers the one to send a request to, and what it counts there.

    Where it was not measured it is taken to cost what it does on the others, so that a
    worker which nothing is known of gets its chance.
    """
    unmeasured = version.cost(route.variant, route.bucket) or UNMEASURED_NS
    candidates = []
    for link, placement in there:
        link.backlog.lanes = max(link.backlog.lanes, placement.lanes)
        key = placement.variant_ids[route.variant], route.bucket
        cost_ns = route.rows * placement.row_ns(key, unmeasured)
        candidates.append(
            Candidate(link.backlog, link.lent, link.peer, placement.lanes, cost_ns)
        )
    index = first_to_finish(candidates, now)
    link, placement = there[index]
    cost_ns = candidates[index].cost_ns
    link.backlog.lend(cost_ns, now)
    return link, placement, cost_ns
