"""Device memory that grows where it lies, by the driver's calls for addresses.

All addresses that it may ever need are taken at once, which costs nothing; memory is put behind
them in pieces, as it is wanted. So graphs and engines may keep its address.
"""

from typing import Any


class CudaMappings:
    """Those calls, for one device, which the calling thread has entered.

    `driver` is the module cuda.bindings.driver. Each call returns CUDA's number for what went
    wrong, 0 for nothing, and takes and gives addresses as integers.
    """

    def __init__(self, driver: Any, index: int) -> None:
        self._driver = driver
        place = driver.CUmemAllocationProp()
        place.type = driver.CUmemAllocationType.CU_MEM_ALLOCATION_TYPE_PINNED
        place.location.type = driver.CUmemLocationType.CU_MEM_LOCATION_TYPE_DEVICE
        place.location.id = index
        self._place = place
        self._access = driver.CUmemAccessDesc()
        self._access.location = place.location
        self._access.flags = driver.CUmemAccess_flags.CU_MEM_ACCESS_FLAGS_PROT_READWRITE

    def granularity(self) -> tuple[int, int]:
        """(what went wrong, the bytes that memory comes in)."""
        smallest = self._driver.CUmemAllocationGranularity_flags.CU_MEM_ALLOC_GRANULARITY_MINIMUM
        error, size = self._driver.cuMemGetAllocationGranularity(self._place, smallest)
        return int(error), int(size or 0)

    def reserve(self, size: int) -> tuple[int, int]:
        """(what went wrong, the first of so many addresses without memory)."""
        error, address = self._driver.cuMemAddressReserve(size, 0, 0, 0)
        return int(error), int(address or 0)

    def back(self, address: int, size: int) -> int:
        """Put memory behind addresses."""
        driver = self._driver
        error, memory = driver.cuMemCreate(size, self._place, 0)
        if error:
            return int(error)
        error, = driver.cuMemMap(address, size, 0, memory, 0)
        # From here on the mapping is what holds the memory, or nothing does.
        driver.cuMemRelease(memory)
        if error:
            return int(error)
        error, = driver.cuMemSetAccess(address, size, [self._access], 1)
        if error:
            driver.cuMemUnmap(address, size)
        return int(error)

    def free(self, address: int, size: int, reserved: int) -> int:
        """Give back `reserved` addresses and the memory behind the first `size` bytes."""
        error = 0
        if size:
            error = int(self._driver.cuMemUnmap(address, size)[0])
        return error or int(self._driver.cuMemAddressFree(address, reserved)[0])
