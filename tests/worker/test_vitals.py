"""What the device's driver says, as metrics."""

import pytest

from trtserve.device.nvml import NvmlReader
from trtserve.device.vitals import Vital, Vitals
from trtserve.ipc.arena import ArenaStatistics
from trtserve.metrics import METRICS, Recorder
from trtserve.testing.clock import FakeClock
from trtserve.testing.device import FakeDevice
from trtserve.testing.nvml import FakeNvml
from trtserve.worker.batcher import Batcher
from trtserve.worker.counts import record_gauges
from trtserve.worker.vitals import record_vitals

LABELS = ("cuda:0", "GPU-7")


@pytest.fixture
def recorder():
    return Recorder()


def test_all_that_is_read_is_in_the_table_of_metrics(recorder):
    reader = NvmlReader(FakeNvml(), "0000:3A:00.0")
    reader.open()
    record_vitals(recorder, "cuda:0", reader.read())
    assert {name for name, _ in recorder.gauges} == {
        name for name in METRICS if name.startswith("gpu_")
    } - {"gpu_xid_errors"}
    for name, labels in recorder.gauges:
        assert len(labels) == len(METRICS[name].labels)
        assert labels[:2] == LABELS


def test_what_is_not_said_any_more_vanishes_and_errors_stay(recorder):
    said = Vitals(
        "GPU-7", (Vital("gpu_power_watts", 300.0), Vital("gpu_clocks_limited", 1.0, "power")),
        (("79", 2),),
    )
    recorder.gauge("lanes", ("cuda:0",), 3)
    record_vitals(recorder, "cuda:0", said)
    assert recorder.gauges["gpu_power_watts", LABELS] == 300
    assert recorder.gauges["gpu_clocks_limited", (*LABELS, "power")] == 1
    record_vitals(recorder, "cuda:0", said)
    assert recorder.counters["gpu_xid_errors", (*LABELS, "79")] == 2  # a total, not a difference
    record_vitals(recorder, "cuda:0", None)
    assert recorder.gauges == {("lanes", ("cuda:0",)): 3}
    assert recorder.counters["gpu_xid_errors", (*LABELS, "79")] == 2


def test_a_worker_records_its_device_s(recorder):
    device = FakeDevice(FakeClock())
    device.said = Vitals("GPU-7", (Vital("gpu_temperature_celsius", 50.0),))
    record_gauges(
        recorder, "worker", device, ArenaStatistics(0, 0, 0), Batcher(1, 1).statistics(), ()
    )
    assert recorder.gauges["gpu_temperature_celsius", (device.name, "GPU-7")] == 50
