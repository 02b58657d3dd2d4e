"""Which device a worker makes."""

import pytest

from trtserve.device.host import HostDevice
from trtserve.errors import ConfigurationError
from trtserve.worker.process import make_device


@pytest.mark.parametrize("name", ["", "cpu"])
def test_the_host(name):
    device = make_device(name, 3)
    assert isinstance(device, HostDevice)
    assert device.default_lanes == 3


@pytest.mark.parametrize("name", ["cuda", "cuda:", "cuda:x", "cuda:-1", "gpu", "cpu:0"])
def test_what_is_no_device(name):
    with pytest.raises(ConfigurationError, match="there is no device"):
        make_device(name, 0)
