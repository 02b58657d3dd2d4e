"""Which device a worker makes, and which models it begins with."""

from pathlib import Path

import pytest

from trtserve.device.host import HostDevice
from trtserve.errors import ConfigurationError
from trtserve.worker.process import find_models, make_device


@pytest.mark.parametrize("name", ["", "cpu"])
def test_the_host(name):
    device = make_device(name, 3)
    assert isinstance(device, HostDevice)
    assert device.default_lanes == 3


@pytest.mark.parametrize("name", ["cuda", "cuda:", "cuda:x", "cuda:-1", "gpu", "cpu:0"])
def test_what_is_no_device(name):
    with pytest.raises(ConfigurationError, match="there is no device"):
        make_device(name, 0)


def test_all_models_of_the_repository_or_those_that_are_named(tmp_path: Path):
    for name in ("a", "b", "scratch-7"):
        path = tmp_path / name / "1"
        path.mkdir(parents=True)
        (path / "model.fake").write_bytes(b"engine")
    everything = find_models(None, tmp_path, (".fake",))
    assert [model.name for model in everything.models] == ["a", "b", "scratch-7"]
    chosen = find_models(
        (("b", str(tmp_path / "b")), ("c", str(tmp_path / "scratch-7"))), tmp_path, (".fake",)
    )
    assert [(model.name, model.path.name) for model in chosen.models] == [
        ("b", "b"), ("c", "scratch-7"),
    ]
    assert not chosen.findings
    nothing = find_models((), tmp_path / "missing", (".fake",))
    assert (nothing.models, nothing.findings) == ((), ())
