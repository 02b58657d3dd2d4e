"""What the device's driver says, as gauges."""

from trtserve.device.vitals import Vitals
from trtserve.metrics import METRICS, Kind, Recorder

_GAUGES = frozenset(
    name for name, metric in METRICS.items()
    if name.startswith("gpu_") and metric.kind is Kind.GAUGE
)


def record_vitals(recorder: Recorder, device: str, vitals: Vitals | None) -> None:
    """Set the gauges and counters to what was read last. Gauges of before vanish: what the
    driver does not say any more must not look like news."""
    gauges = recorder.gauges
    for key in [key for key in gauges if key[0] in _GAUGES]:
        del gauges[key]
    if vitals is None:
        return
    labels = (device, vitals.uuid)
    for vital in vitals.values:
        own = (*labels, vital.label) if vital.label else labels
        recorder.gauge(vital.name, own, vital.value)
    for xid, times in vitals.errors:
        recorder.counters["gpu_xid_errors", (*labels, xid)] = times
