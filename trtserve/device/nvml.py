"""What NVIDIA's management library (NVML) says about a GPU: load, memory, power, heat, errors.

A thread of its own asks, since a call may hang for as long as the driver does: then the values
grow old and vanish, and nothing else happens. What a GPU does not have is left out. NVML's
numbers: https://docs.nvidia.com/deploy/nvml-api/
"""

import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from trtserve import clock
from trtserve.clock import NS_PER_S
from trtserve.device.vitals import Vital, Vitals

log = logging.getLogger(__name__)

EVERY_SECONDS = 2.0
"""Between two readings."""

STALE_NS = 15 * NS_PER_S
"""Values that are older are not shown: the driver does not answer."""

LIMITING = {
    1 << 0: "idle", 1 << 1: "application", 1 << 2: "power", 1 << 3: "hardware",
    1 << 4: "sync_boost", 1 << 5: "thermal", 1 << 6: "hardware_thermal",
    1 << 7: "hardware_power_brake", 1 << 8: "display",
}
"""NVML's bits for what holds the clocks down."""

RECOVERY = ("none", "reset_gpu", "reboot_node", "drain_peers", "drain_and_reset", "recover_imex")
"""NVML's numbers for what a GPU needs to work again; later ones get theirs as a name."""

_GPU_TEMPERATURE = 0
_SM_CLOCK = 1
_UNCORRECTED = 1
_VOLATILE, _AGGREGATE = 0, 1
_XID_EVENT = 1 << 3
_RECOVERY_FIELD = 230
_MS_PER_S = 1000
_PER_CENT = 100
_WATT = 1000
_MHZ = 10**6


class NvmlReader:
    """Reads one GPU. `library` is `cuda.bindings.nvml`; `pci` the GPU's place on the bus, since
    CUDA's numbers are not NVML's. Used in one thread; raises the library's errors from `open`.
    """

    def __init__(self, library: Any, pci: str) -> None:
        self._library = library
        self._pci = pci
        self._missing: set[str] = set()
        self._xids: Counter[str] = Counter()
        self._events: Any = None

    def open(self) -> None:
        """Start the library and find the GPU."""
        self._library.init_v2()
        self._gpu = self._library.device_get_handle_by_pci_bus_id_v2(self._pci)
        self.uuid = str(self._library.device_get_uuid(self._gpu))
        try:
            events = self._library.event_set_create()
            self._library.device_register_events(self._gpu, _XID_EVENT, events)
            self._events = events
        except self._library.NvmlError as error:
            log.debug("the driver tells of no Xid errors: %s", error)

    def wait(self, seconds: float) -> bool:
        """Wait for an error of the GPU. False: nothing tells of them, and no time has passed."""
        if self._events is None:
            return False
        try:
            event = self._library.event_set_wait_v2(self._events, int(seconds * _MS_PER_S))
        except self._library.NvmlError as error:
            if _says(error, "timeout"):
                return True
            log.debug("the driver tells of no more Xid errors: %s", error)
            self._events = None
            return False
        if int(event.event_type) & _XID_EVENT:
            xid = str(int(event.event_data))
            self._xids[xid] += 1
            log.error("the driver reports Xid %s for GPU %s", xid, self.uuid)
        return True

    def read(self) -> Vitals:
        """Everything that the GPU tells of itself."""
        values = [vital for part in self._parts() for vital in self._ask(part)]
        return Vitals(self.uuid, tuple(values), tuple(sorted(self._xids.items())))

    def _ask(self, part: Callable[[], Iterator[Vital]]) -> list[Vital]:
        """What a part says; nothing if it fails, and nothing ever if the GPU lacks it."""
        if part.__name__ in self._missing:
            return []
        try:
            return list(part())
        except self._library.NvmlError as error:
            if _says(error, "supported") or _says(error, "not found"):
                self._missing.add(part.__name__)
            return []

    def _parts(self) -> tuple[Callable[[], Iterator[Vital]], ...]:
        return (
            self._utilization, self._memory, self._power, self._power_limit, self._temperature,
            self._clock, self._limits, self._ecc, self._recovery,
        )

    def _utilization(self) -> Iterator[Vital]:
        found = self._library.device_get_utilization_rates(self._gpu)
        yield Vital("gpu_utilization_ratio", int(found.gpu) / _PER_CENT)
        yield Vital("gpu_memory_busy_ratio", int(found.memory) / _PER_CENT)

    def _memory(self) -> Iterator[Vital]:
        found = self._library.device_get_memory_info_v2(self._gpu)
        yield Vital("gpu_memory_bytes", int(found.total))
        yield Vital("gpu_memory_used_bytes", int(found.used))

    def _power(self) -> Iterator[Vital]:
        yield Vital("gpu_power_watts", self._library.device_get_power_usage(self._gpu) / _WATT)

    def _power_limit(self) -> Iterator[Vital]:
        limit = self._library.device_get_enforced_power_limit(self._gpu)
        yield Vital("gpu_power_limit_watts", limit / _WATT)

    def _temperature(self) -> Iterator[Vital]:
        found = self._library.device_get_temperature_v(self._gpu, _GPU_TEMPERATURE)
        yield Vital("gpu_temperature_celsius", int(found))

    def _clock(self) -> Iterator[Vital]:
        clock_mhz = self._library.device_get_clock_info(self._gpu, _SM_CLOCK)
        yield Vital("gpu_sm_clock_hertz", clock_mhz * _MHZ)

    def _limits(self) -> Iterator[Vital]:
        bits = int(self._library.device_get_current_clocks_event_reasons(self._gpu))
        for bit, name in LIMITING.items():
            yield Vital("gpu_clocks_limited", float(bool(bits & bit)), name)

    def _ecc(self) -> Iterator[Vital]:
        for since, counter in (("volatile", _VOLATILE), ("aggregate", _AGGREGATE)):
            errors = self._library.device_get_total_ecc_errors(self._gpu, _UNCORRECTED, counter)
            yield Vital("gpu_ecc_uncorrected_errors", errors, since)

    def _recovery(self) -> Iterator[Vital]:
        field = self._library.FieldValue(1)
        field.field_id = _RECOVERY_FIELD
        self._library.device_get_field_values(self._gpu, field)
        if int(field.nvml_return):  # a driver that does not know it
            self._missing.add("_recovery")
            return
        action = int(field.value["ui_val"][0])
        names = RECOVERY if action < len(RECOVERY) else (*RECOVERY, str(action))
        for number, name in enumerate(names):
            given = number == action or name == str(action)
            yield Vital("gpu_recovery_action", float(given), name)


class NvmlMonitor:
    """Reads a GPU again and again, in a thread that nobody ever waits for."""

    def __init__(
        self, reader: Callable[[], NvmlReader], now: Callable[[], int] = clock.now_ns
    ) -> None:
        self._make = reader
        self._now = now
        self._latest: tuple[int, Vitals] | None = None
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="nvml", daemon=True)

    def start(self) -> None:
        """Begin to read."""
        self._thread.start()

    def latest(self) -> Vitals | None:
        """The last reading; None before the first, without a driver, and while it hangs."""
        latest = self._latest
        if latest is None or self._now() - latest[0] > STALE_NS:
            return None
        return latest[1]

    def stop(self) -> None:
        """Read no more. Does not wait for a call that is under way."""
        self._end.set()

    def join(self, seconds: float) -> bool:
        """Whether it has ended within that time."""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            reader = self._make()
            reader.open()
        except Exception as error:  # no library, no driver, no permission: each has its own
            log.debug("no GPU metrics: %s", error)
            return
        while not self._end.is_set():
            try:
                self._latest = (self._now(), reader.read())
                due = self._now() + int(EVERY_SECONDS * NS_PER_S)
                # Errors may come many at once: count them all, but read no more often for it.
                while (left := (due - self._now()) / NS_PER_S) > 0 and not self._end.is_set():
                    if not reader.wait(left):
                        self._end.wait(left)
            except Exception as error:  # other bindings: metrics are not worth more
                log.debug("no more GPU metrics: %s", error)
                return


def monitor(pci: str) -> NvmlMonitor:
    """A monitor of the GPU at that place, not started."""

    def reader() -> NvmlReader:
        from cuda.bindings import nvml

        return NvmlReader(nvml, pci)

    return NvmlMonitor(reader)


def _says(error: Exception, word: str) -> bool:
    """What kind of error it is: its class has the name of NVML's constant, its text says it."""
    return word in f"{type(error).__name__} {error}".lower().replace("notfound", "not found")
