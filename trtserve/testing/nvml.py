"""The library NVML with one GPU, for tests: the part of `cuda.bindings.nvml` that is used.

Its values are attributes, in NVML's units. `fail` makes a call raise, `hang` makes all of them
wait.
"""

import threading
from collections import deque
from types import SimpleNamespace
from typing import Any

GPU = 7
_TIMEOUT_S = 20


class NvmlError(Exception):
    """The base of what NVML raises."""


class NotSupportedError(NvmlError):
    """The GPU does not have it."""


class TimeoutError(NvmlError):  # noqa: A001  (NVML's name)
    """Nothing has happened."""


class UnknownError(NvmlError):
    """Anything."""


class FieldValue:
    """One field to ask for, as NVML's structure has it."""

    def __init__(self, size: int) -> None:
        assert size == 1
        self.field_id = 0
        self.nvml_return = -1
        self.value: Any = None


class FakeNvml:
    """The module. `calls` counts the calls of each name."""

    NvmlError = NvmlError
    FieldValue = FieldValue

    def __init__(self) -> None:
        self.utilization = 40, 10
        self.memory = 1 << 30, 1 << 20
        self.power_mw = 350_500
        self.power_limit_mw = 700_000
        self.temperature = 55
        self.sm_clock_mhz = 1980
        self.clock_reasons = 0
        self.ecc = {0: 0, 1: 2}
        self.recovery_action = 0
        self.recovery_return = 0
        self.running = threading.Event()
        self.running.set()
        self.calls: dict[str, int] = {}
        self._faults: dict[str, Exception] = {}
        self._xids: deque[int] = deque()

    def fail(self, call: str, error: Exception | None) -> None:
        """Let calls of that name raise; None: no more."""
        if error is None:
            self._faults.pop(call, None)
        else:
            self._faults[call] = error

    def report(self, xid: int) -> None:
        """The driver tells of an error."""
        self._xids.append(xid)

    def _called(self, call: str, gpu: int = GPU) -> None:
        self.calls[call] = self.calls.get(call, 0) + 1
        assert self.running.wait(_TIMEOUT_S)
        assert gpu == GPU
        if call in self._faults:
            raise self._faults[call]

    def init_v2(self) -> None:
        """Start."""
        self._called("init_v2")

    def device_get_handle_by_pci_bus_id_v2(self, pci: str) -> int:
        """The GPU at a place."""
        self._called("device_get_handle_by_pci_bus_id_v2")
        assert pci == "0000:3A:00.0"
        return GPU

    def device_get_uuid(self, gpu: int) -> str:
        """Its name for good."""
        self._called("device_get_uuid", gpu)
        return "GPU-7"

    def event_set_create(self) -> int:
        """A place for events."""
        self._called("event_set_create")
        return 1

    def device_register_events(self, gpu: int, events: int, into: int) -> None:
        """Tell of Xid errors."""
        self._called("device_register_events", gpu)
        assert (events, into) == (8, 1)

    def event_set_wait_v2(self, events: int, milliseconds: int) -> Any:
        """The next event, or TimeoutError. Does not really wait: a test's time is its own."""
        self._called("event_set_wait_v2")
        assert (events, milliseconds >= 0) == (1, True)
        if not self._xids:
            raise TimeoutError("Timeout")
        return SimpleNamespace(event_type=8, event_data=self._xids.popleft())

    def device_get_utilization_rates(self, gpu: int) -> Any:
        """Per cent."""
        self._called("device_get_utilization_rates", gpu)
        return SimpleNamespace(gpu=self.utilization[0], memory=self.utilization[1])

    def device_get_memory_info_v2(self, gpu: int) -> Any:
        """Bytes."""
        self._called("device_get_memory_info_v2", gpu)
        return SimpleNamespace(total=self.memory[0], used=self.memory[1])

    def device_get_power_usage(self, gpu: int) -> int:
        """Milliwatts."""
        self._called("device_get_power_usage", gpu)
        return self.power_mw

    def device_get_enforced_power_limit(self, gpu: int) -> int:
        """Milliwatts."""
        self._called("device_get_enforced_power_limit", gpu)
        return self.power_limit_mw

    def device_get_temperature_v(self, gpu: int, sensor: int) -> int:
        """Degrees Celsius."""
        self._called("device_get_temperature_v", gpu)
        assert sensor == 0
        return self.temperature

    def device_get_clock_info(self, gpu: int, clock: int) -> int:
        """Megahertz."""
        self._called("device_get_clock_info", gpu)
        assert clock == 1
        return self.sm_clock_mhz

    def device_get_current_clocks_event_reasons(self, gpu: int) -> int:
        """Bits."""
        self._called("device_get_current_clocks_event_reasons", gpu)
        return self.clock_reasons

    def device_get_total_ecc_errors(self, gpu: int, kind: int, counter: int) -> int:
        """Errors."""
        self._called("device_get_total_ecc_errors", gpu)
        assert kind == 1
        return self.ecc[counter]

    def device_get_field_values(self, gpu: int, field: Any) -> None:
        """Fill a field."""
        self._called("device_get_field_values", gpu)
        assert field.field_id == 230
        field.nvml_return = self.recovery_return
        field.value = {"ui_val": [self.recovery_action]}
