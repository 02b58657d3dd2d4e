import ctypes

import pytest

from trtserve.device.host import GROWTH_BYTES, HostDevice
from trtserve.errors import DeviceError


def test_host_memory_grows_where_it_lies():
    buffer = HostDevice().allocate_growing()
    address = buffer.address
    assert (buffer.size, address % 256) == (0, 0)
    buffer.grow(1000)
    ctypes.memset(address, 7, 1000)
    buffer.grow(10_000_000)
    buffer.grow(5)
    assert (buffer.address, buffer.size) == (address, 10_000_000)
    ctypes.memset(address + 1000, 8, 9_999_000)
    assert ctypes.string_at(address + 999, 2) == b"\x07\x08"
    with pytest.raises(DeviceError, match="can grow to"):
        buffer.grow(GROWTH_BYTES + 1)
    buffer.close()
    buffer.close()


def test_a_host_stream_has_no_graphs():
    stream = HostDevice().create_stream()
    with pytest.raises(DeviceError, match="no graphs"):
        stream.begin_capture()
    with pytest.raises(DeviceError, match="recorded nothing"):
        stream.end_capture()
