"""How much memory the models take: the device's where it tells, else this process's."""

import ctypes
import os

from trtserve.device.interface import Device

_STATM = "/proc/self/statm"
_PAGE = os.sysconf("SC_PAGE_SIZE")


def used_bytes(device: Device) -> int:
    """Bytes in use: of the device's memory, whoever uses it, or of this process's where the
    device counts none. 0 where neither is known. Raises DeviceError."""
    memory = device.memory()
    if memory is not None:
        free, total = memory
        return total - free
    return resident_bytes()


def resident_bytes() -> int:
    """This process's resident memory in bytes; 0 where the system does not say."""
    try:
        with open(_STATM) as file:
            return int(file.read().split()[1]) * _PAGE
    except OSError:
        return 0


def give_back(device: Device) -> None:
    """Let the C library return what was freed to the system, where models lie in host memory.

    It keeps freed memory for later by itself, which after a large model is all of the model's.
    """
    if device.unified and _trim is not None:
        _trim(0)


def _find_trim() -> "ctypes._NamedFuncPointer | None":
    """malloc_trim of glibc; other C libraries have none."""
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError):
        return None
    trim.argtypes = [ctypes.c_size_t]
    trim.restype = ctypes.c_int
    return trim


_trim = _find_trim()
