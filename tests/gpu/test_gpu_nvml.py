"""The driver's own library on a real GPU, through the device that a worker has."""

import threading

import pytest

from trtserve.clock import NS_PER_S, now_ns
from trtserve.device.cuda import CudaDevice
from trtserve.device.vitals import Vitals
from trtserve.metrics import METRICS, Recorder
from trtserve.worker.vitals import record_vitals

PATIENCE_S = 30


@pytest.fixture
def vitals(device: CudaDevice) -> Vitals:
    """The first reading."""
    end = now_ns() + PATIENCE_S * NS_PER_S
    while (found := device.vitals()) is None:
        assert now_ns() < end, "the driver's library says nothing"
        threading.Event().wait(0.05)
    return found


def test_a_data_center_gpu_tells_everything(device: CudaDevice, vitals: Vitals) -> None:
    for vital in vitals.values:
        print(f"{vital.name:28} {vital.label:22} {vital.value:g}")
    found = {(vital.name, vital.label): vital.value for vital in vitals.values}
    names = {name for name, _ in found}
    wanted = {name for name in METRICS if name.startswith("gpu_")} - {"gpu_xid_errors"}
    assert wanted - names == set()
    assert vitals.uuid.startswith("GPU-")
    assert vitals.errors == ()
    assert 0 <= found["gpu_utilization_ratio", ""] <= 1
    assert 0 <= found["gpu_memory_busy_ratio", ""] <= 1
    assert 10 < found["gpu_temperature_celsius", ""] < 110
    assert 10 < found["gpu_power_watts", ""] < 1.2 * found["gpu_power_limit_watts", ""]
    assert 1e8 < found["gpu_sm_clock_hertz", ""] < 5e9
    assert found["gpu_recovery_action", "none"] == 1
    free, total = device.memory()
    assert found["gpu_memory_bytes", ""] == pytest.approx(total, rel=0.05)
    assert found["gpu_memory_used_bytes", ""] == pytest.approx(total - free, abs=2 << 30)


def test_it_is_recorded_as_gauges(vitals: Vitals) -> None:
    recorder = Recorder()
    record_vitals(recorder, "cuda:0", vitals)
    for name, labels in recorder.gauges:
        assert len(labels) == len(METRICS[name].labels)
    assert recorder.gauges["gpu_memory_bytes", ("cuda:0", vitals.uuid)] > 1 << 30
