"""Pinning arenas for a device."""

import logging

from trtserve.device.interface import Device
from trtserve.errors import DeviceError

log = logging.getLogger(__name__)


def pin(device: Device, address: int, size: int) -> bool:
    """Attach an arena to a device. False, with a warning, where memory can not be pinned: copies
    then still work, slowly. Raises DeviceError when the device is lost."""
    try:
        device.attach(address, size)
    except DeviceError as error:
        if error.sticky:
            raise
        log.warning(
            "%s; copies will be several times as slow. Allow more locked memory (ulimit -l), or "
            "set arena_bytes lower", error,
        )
        return False
    return True
