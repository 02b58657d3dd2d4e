"""GPU metrics from the driver's library: what is read, what is left out, and that nobody waits."""

import logging
import threading

import pytest

from trtserve.clock import NS_PER_S, now_ns
from trtserve.device.nvml import (
    EVERY_SECONDS,
    LIMITING,
    RECOVERY,
    STALE_NS,
    NvmlMonitor,
    NvmlReader,
    monitor,
)
from trtserve.device.vitals import Vital
from trtserve.testing.clock import FakeClock
from trtserve.testing.nvml import FakeNvml, NotSupportedError, NvmlError, UnknownError

PCI = "0000:3A:00.0"


@pytest.fixture
def library():
    return FakeNvml()


@pytest.fixture
def reader(library):
    reader = NvmlReader(library, PCI)
    reader.open()
    return reader


def values(vitals, name):
    return {vital.label: vital.value for vital in vitals.values if vital.name == name}


def test_everything_comes_in_base_units(reader, library):
    library.clock_reasons = 1 << 2 | 1 << 6
    vitals = reader.read()
    assert vitals.uuid == "GPU-7"
    plain = {vital.name: vital.value for vital in vitals.values if not vital.label}
    assert plain == {
        "gpu_utilization_ratio": 0.4, "gpu_memory_busy_ratio": 0.1,
        "gpu_memory_bytes": 1 << 30, "gpu_memory_used_bytes": 1 << 20,
        "gpu_power_watts": 350.5, "gpu_power_limit_watts": 700,
        "gpu_temperature_celsius": 55, "gpu_sm_clock_hertz": 1.98e9,
    }
    limits = values(vitals, "gpu_clocks_limited")
    assert set(limits) == set(LIMITING.values())
    assert {name for name, given in limits.items() if given} == {"power", "hardware_thermal"}
    assert values(vitals, "gpu_ecc_uncorrected_errors") == {"volatile": 0, "aggregate": 2}
    assert values(vitals, "gpu_recovery_action") == {
        name: float(name == "none") for name in RECOVERY
    }


@pytest.mark.parametrize(("action", "name"), [(1, "reset_gpu"), (4, "drain_and_reset"), (9, "9")])
def test_what_the_gpu_needs_is_named(reader, library, action, name):
    library.recovery_action = action
    given = values(reader.read(), "gpu_recovery_action")
    assert [label for label, value in given.items() if value] == [name]


def test_what_the_gpu_lacks_is_left_out_and_asked_for_no_more(reader, library):
    library.fail("device_get_total_ecc_errors", NotSupportedError("Not Supported"))
    library.recovery_return = 3
    for _ in range(3):
        vitals = reader.read()
        assert not values(vitals, "gpu_ecc_uncorrected_errors")
        assert not values(vitals, "gpu_recovery_action")
        assert values(vitals, "gpu_power_watts")
    assert library.calls["device_get_total_ecc_errors"] == 1
    assert library.calls["device_get_field_values"] == 1


def test_what_fails_once_comes_back(reader, library):
    library.fail("device_get_power_usage", UnknownError("Unknown Error"))
    assert not values(reader.read(), "gpu_power_watts")
    library.fail("device_get_power_usage", None)
    assert values(reader.read(), "gpu_power_watts")


def test_xid_errors_are_counted_and_told(reader, library, caplog):
    for xid in (79, 48, 79):
        library.report(xid)
    assert [reader.wait(1) for _ in range(4)] == [True] * 4
    assert reader.read().errors == (("48", 1), ("79", 2))
    assert caplog.messages[0] == "the driver reports Xid 79 for GPU GPU-7"


def test_a_gpu_that_tells_of_no_events_is_read_all_the_same(library):
    library.fail("device_register_events", NotSupportedError("Not Supported"))
    reader = NvmlReader(library, PCI)
    reader.open()
    assert reader.wait(1) is False
    assert Vital("gpu_temperature_celsius", 55) in reader.read().values


class Pace(NvmlReader):
    """Time goes on only while the monitor waits for its next reading."""

    def __init__(self, library, clock):
        super().__init__(library, PCI)
        self.clock = clock

    def wait(self, seconds):
        self.clock.advance(int(seconds * NS_PER_S))
        return super().wait(seconds)


def watched(library, clock):
    return NvmlMonitor(lambda: Pace(library, clock), clock.now_ns)


def until(condition):
    end = now_ns() + 20 * NS_PER_S
    while not condition():
        assert now_ns() < end
        threading.Event().wait(0.001)


def test_a_monitor_reads_again_and_again(library):
    clock = FakeClock()
    found = watched(library, clock)
    found.start()
    until(lambda: library.calls.get("device_get_power_usage", 0) > 3)
    assert found.latest() is not None
    found.stop()
    assert found.join(20)
    readings = library.calls["device_get_power_usage"]
    assert readings <= clock.now_ns() / (EVERY_SECONDS * NS_PER_S) + 1


def test_a_driver_that_hangs_makes_the_values_vanish_and_holds_up_nobody(library):
    clock = FakeClock()
    found = watched(library, clock)
    found.start()
    until(lambda: found.latest() is not None)
    library.running.clear()
    until(lambda: library.calls.get("event_set_wait_v2", 0) > 0)
    clock.advance(STALE_NS + 10 * NS_PER_S)
    assert found.latest() is None
    found.stop()
    library.running.set()
    assert found.join(20)


@pytest.mark.parametrize("error", [UnknownError("Driver Not Loaded"), OSError("no such file")])
def test_without_a_driver_there_is_a_line_for_debugging_and_nothing_else(library, caplog, error):
    caplog.set_level(logging.DEBUG)
    if isinstance(error, NvmlError):
        library.fail("init_v2", error)
        found = NvmlMonitor(lambda: NvmlReader(library, PCI))
    else:
        def broken():
            raise error

        found = NvmlMonitor(broken)
    found.start()
    assert found.join(20)
    assert found.latest() is None
    (record,) = caplog.records
    assert (record.levelno, record.getMessage()) == (logging.DEBUG, f"no GPU metrics: {error}")


def test_the_real_library_s_names_are_there():
    nvml = pytest.importorskip("cuda.bindings.nvml")
    missing = [
        name for name in dir(FakeNvml)
        if name.startswith(("device_", "event_", "init_", "FieldValue", "NvmlError"))
        and not hasattr(nvml, name)
    ]
    assert not missing


def test_a_machine_without_the_driver_has_no_metrics(caplog):
    caplog.set_level(logging.DEBUG)
    found = monitor(PCI)
    found.start()
    if not found.join(60):
        pytest.skip("this machine has a driver")
    assert found.latest() is None
    assert "no GPU metrics" in caplog.messages[-1]
