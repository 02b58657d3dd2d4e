"""What those see of the status who ask from another machine, without any proof. Pure.

They see which models there are, how they are and how busy. What tells of the inside (process ids,
paths, causes) and of others' requests (their errors, shapes and batches) is for those who are on
this machine, as DebugService's calls are: `kubectl port-forward` and a tunnel end there.
"""

import ipaddress

from msgspec.structs import replace

from trtserve.supervisor.status_data import Addresses, Model, Status


def is_near(address: str) -> bool:
    """Whether a client's address is one of this machine's own; an unknown one is not."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(found, "ipv4_mapped", None)
    return bool((mapped or found).is_loopback)


def short(reasons: tuple[str, ...]) -> tuple[str, ...]:
    """Reasons for not being ready without their causes, which name files."""
    return tuple(reason.partition(": ")[0] for reason in reasons)


def for_strangers(status: Status) -> Status:
    """The status without what is not theirs."""
    here = status.addresses
    return replace(
        status,
        not_ready=short(status.not_ready),
        addresses=Addresses(here.grpc, here.http, None),
        models=tuple(map(_model, status.models)),
        batches=(),
        missed=0,
        errors=tuple(replace(error, message="") for error in status.errors),
        processes=tuple(replace(process, pid=None) for process in status.processes),
    )


def _model(model: Model) -> Model:
    return replace(
        model, reason="", places=tuple(replace(place, reason="") for place in model.places)
    )
