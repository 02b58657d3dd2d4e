"""Growing memory on a driver that only notes what is asked of it."""

from types import SimpleNamespace
from typing import Any

import pytest

from trtserve.device.cuda_mapping import CudaMappings


class Driver:
    """The driver's calls: `mapped` are (address, size), `memory` what is taken and not free.
    `failing` is the call that returns an error, 2."""

    CUmemAllocationType = SimpleNamespace(CU_MEM_ALLOCATION_TYPE_PINNED=1)
    CUmemLocationType = SimpleNamespace(CU_MEM_LOCATION_TYPE_DEVICE=1)
    CUmemAccess_flags = SimpleNamespace(CU_MEM_ACCESS_FLAGS_PROT_READWRITE=3)
    CUmemAllocationGranularity_flags = SimpleNamespace(CU_MEM_ALLOC_GRANULARITY_MINIMUM=0)

    def __init__(self, failing: str = "") -> None:
        self._failing = failing
        self.mapped: list[tuple[int, int]] = []
        self.handles = 0
        self.reserved = 0
        self.open: list[tuple[int, int]] = []

    def CUmemAllocationProp(self) -> Any:
        return SimpleNamespace(location=SimpleNamespace())

    def CUmemAccessDesc(self) -> Any:
        return SimpleNamespace()

    def _error(self, call: str) -> int:
        return 2 if call == self._failing else 0

    def cuMemGetAllocationGranularity(self, place: Any, which: int) -> tuple[int, int]:
        assert place.location.id == 1
        return self._error("granularity"), 2 << 20

    def cuMemAddressReserve(
        self, size: int, alignment: int, address: int, flags: int
    ) -> tuple[int, int | None]:
        if self._error("reserve"):
            return 2, None
        self.reserved += size
        return 0, 1 << 40

    def cuMemCreate(self, size: int, place: Any, flags: int) -> tuple[int, int | None]:
        if self._error("create"):
            return 2, None
        self.handles += 1
        return 0, 77

    def cuMemMap(
        self, address: int, size: int, offset: int, memory: int, flags: int
    ) -> tuple[int]:
        assert (offset, memory) == (0, 77)
        if not self._error("map"):
            self.mapped.append((address, size))
        return (self._error("map"),)

    def cuMemRelease(self, memory: int) -> tuple[int]:
        self.handles -= 1
        return (0,)

    def cuMemSetAccess(self, address: int, size: int, access: Any, count: int) -> tuple[int]:
        assert access[0].flags == 3
        assert count == 1
        if not self._error("access"):
            self.open.append((address, size))
        return (self._error("access"),)

    def cuMemUnmap(self, address: int, size: int) -> tuple[int]:
        self.mapped = [
            piece for piece in self.mapped if not address <= piece[0] < address + size
        ]
        return (0,)

    def cuMemAddressFree(self, address: int, size: int) -> tuple[int]:
        self.reserved -= size
        return (0,)


def test_memory_is_put_behind_addresses_and_taken_away():
    driver = Driver()
    mappings = CudaMappings(driver, 1)
    assert mappings.granularity() == (0, 2 << 20)
    error, address = mappings.reserve(1 << 30)
    assert (error, address) == (0, 1 << 40)
    assert mappings.back(address, 2 << 20) == 0
    assert mappings.back(address + (2 << 20), 4 << 20) == 0
    assert driver.mapped == driver.open == [(address, 2 << 20), (address + (2 << 20), 4 << 20)]
    assert driver.handles == 0, "the mappings alone hold the memory"
    assert mappings.free(address, 6 << 20, 1 << 30) == 0
    assert (driver.mapped, driver.reserved) == ([], 0)


def test_addresses_that_never_had_memory():
    driver = Driver()
    mappings = CudaMappings(driver, 1)
    _, address = mappings.reserve(1 << 30)
    assert mappings.free(address, 0, 1 << 30) == 0
    assert driver.reserved == 0


@pytest.mark.parametrize("failing", ["create", "map", "access"])
def test_nothing_is_left_of_memory_that_could_not_be_put_there(failing):
    driver = Driver(failing)
    mappings = CudaMappings(driver, 1)
    _, address = mappings.reserve(1 << 30)
    assert mappings.back(address, 2 << 20) == 2
    assert (driver.mapped, driver.handles) == ([], 0)


@pytest.mark.parametrize("failing", ["reserve", "granularity"])
def test_what_the_driver_does_not_have(failing):
    mappings = CudaMappings(Driver(failing), 1)
    assert 2 in (mappings.reserve(1)[0], mappings.granularity()[0])


def test_the_real_structures_have_these_fields():
    driver = pytest.importorskip("cuda.bindings.driver")
    CudaMappings(driver, 1)
    for call in ("cuMemGetAllocationGranularity", "cuMemAddressReserve", "cuMemCreate",
                 "cuMemMap", "cuMemRelease", "cuMemSetAccess", "cuMemUnmap", "cuMemAddressFree"):
        assert hasattr(driver, call)
