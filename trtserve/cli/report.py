"""The start-up report: what the daemon serves, and where."""

from collections.abc import Sequence

from trtserve.cli import output
from trtserve.cli.devices import Choice
from trtserve.config import Settings
from trtserve.ipc.message import ModelUpdate
from trtserve.model.spec import VariantSpec
from trtserve.supervisor.snapshot import Snapshot

_MIB = 1 << 20


def report(choice: Choice, settings: Settings, snapshot: Snapshot) -> None:
    """Print it to standard output."""
    models = _distinct(snapshot.models)
    output.print_line(f"Models in {settings.repository}")
    output.print_table(
        ("model", "version", "state", "loaded in", "memory, peak", "batch",
         "variant: shapes it takes"),
        [row for update in models for row in _rows(update)],
    )
    if not models:
        output.print_line("  none")
    broken = [update for update in models if update.state != "READY"]
    for update in broken:
        output.print_line(
            f"model {update.model} version {update.version} does not serve: {update.full_reason}"
        )
    warnings = {
        (update.model, update.version, warning): None
        for update in snapshot.models for warning in update.warnings
    }
    for model, version, warning in warnings:
        output.print_line(f"warning: {model} version {version}: {warning}")
    output.print_line()
    output.print_table(("process", "pid"), [
        (process.name, process.pid or "") for process in snapshot.processes
    ])
    output.print_line()
    output.print_line(f"devices {choice.line}")
    output.print_line(_lanes(snapshot))
    addresses = snapshot.addresses
    unix = f" and unix:{addresses.socket}" if addresses.socket is not None else ""
    output.print_line(f"gRPC    {addresses.grpc}{unix}")
    scheme = "https" if settings.http_tls else "http"
    output.print_line(f"HTTP    {scheme}://{addresses.http}/  (/metrics /livez /readyz)")
    if snapshot.ready:
        output.print_line("Ready.")
    else:
        output.print_line(
            f"Serving, but not ready: {len(broken)} of {len(models)} models do not serve."
            if broken else f"Serving, but not ready: {'; '.join(snapshot.not_ready)}."
        )


def report_json(choice: Choice, settings: Settings, snapshot: Snapshot) -> None:
    """Print the same as JSON."""
    output.print_json({
        "repository": settings.repository,
        "devices": choice,
        "models": [
            {
                "name": update.model,
                "version": update.version,
                "state": update.state,
                "reason": update.full_reason,
                "warnings": update.warnings,
                "load_seconds": update.load_seconds,
                "memory": update.memory,
                "variants": update.spec.variants if update.spec is not None else (),
            }
            for update in _distinct(snapshot.models)
        ],
        "processes": {process.name: process.pid for process in snapshot.processes},
        "lanes": {
            sample.labels[0]: int(sample.value)
            for sample in snapshot.statistics.gauges if sample.name == "lanes"
        },
        "addresses": snapshot.addresses,
        "ready": snapshot.ready,
        "not_ready": snapshot.not_ready,
    })


def _distinct(updates: Sequence[ModelUpdate]) -> list[ModelUpdate]:
    """Each version once, though it may live on several devices: the one that took longest to
    load. Once more where it is in another state or takes other shapes there."""
    found: dict[object, ModelUpdate] = {}
    for update in updates:
        variants = update.spec.variants if update.spec is not None else ()
        key = (update.model, update.version, update.state, update.full_reason, variants)
        known = found.setdefault(key, update)
        if known.load_seconds < update.load_seconds:
            found[key] = update
    return list(found.values())


def _rows(update: ModelUpdate) -> list[Sequence[str]]:
    """One line for each variant; the first one carries what is the version's."""
    first = (update.model, str(update.version), update.state.lower(),
             f"{update.load_seconds:.2f} s", _memory(update))
    if update.spec is None:
        return [(*first, "", "")]
    return [
        (*(first if index == 0 else ("",) * len(first)), str(variant.max_batch or "none"),
         _shapes(variant))
        for index, variant in enumerate(update.spec.variants)
    ]


def _memory(update: ModelUpdate) -> str:
    """What loading took and kept, and the most meanwhile."""
    if update.memory is None:
        return ""
    kept, peak = update.memory.resident_bytes, update.memory.peak_bytes
    return f"{kept / _MIB:.0f}, {peak / _MIB:.0f} MiB"


def _shapes(variant: VariantSpec) -> str:
    """`name: x FP32[1..8, 3, 1..]`; where the first dimension is a batch it is shown too."""
    return f"{variant.name}: " + ", ".join(
        f"{tensor.name} {tensor.datatype}{shapes}"
        for tensor, shapes in zip(variant.inputs, variant.ranges, strict=True)
    )


def _lanes(snapshot: Snapshot) -> str:
    lanes = [
        f"{sample.value:g} on {sample.labels[0]}"
        for sample in snapshot.statistics.gauges if sample.name == "lanes"
    ]
    return f"lanes   {', '.join(lanes) or 'not known yet'}{_scratch(snapshot)}"


def _scratch(snapshot: Snapshot) -> str:
    """What the engines of a lane share, where any do."""
    gauges = snapshot.statistics.gauges
    together = sum(sample.value for sample in gauges if sample.name == "scratch_bytes")
    apart = sum(sample.value for sample in gauges if sample.name == "scratch_unshared_bytes")
    if apart < _MIB:
        return ""
    return f"; scratch memory {together / _MIB:.0f} MiB, unshared {apart / _MIB:.0f} MiB"
