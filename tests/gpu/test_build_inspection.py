"""The builder where there is a GPU: TensorRT-RTX builds for others than the one that is here."""

import pytest

from trtserve.build.builder import BuildOrder, PlanBuilder
from trtserve.build.progress import Silent
from trtserve.device.probe import probe_in_child
from trtserve.model.plan_manifest import PlanGpu, PlanOptions, PlanProfile
from trtserve.model.spec import ShapeRange
from trtserve.testing.models import make_matmul

RTX = ("7.5", "8.0", "8.6", "8.9", "12.0", "12.1")


class Notes(Silent):
    """Keeps what it is told."""

    def __init__(self):
        self.told = []

    def note(self, text):
        self.told.append(text)


def test_a_plan_is_reported_where_it_can_be_loaded_and_built_where_not(tmp_path):
    module = pytest.importorskip("tensorrt_rtx")
    device = probe_in_child().devices[0]
    path = tmp_path / "matmul.onnx"
    make_matmul(str(path), 64, 32)
    profile = PlanProfile("usual", {"x": ShapeRange((1, 64), (32, 64), (8, 64))})
    notes = Notes()
    gpu = PlanGpu(device.name, device.compute_capability)
    built = PlanBuilder(module, gpu, "", None, notes).build(
        BuildOrder(path, (profile,), PlanOptions(), "the model")
    )
    assert len(built.plan) > 64 * 32 * 4
    if device.compute_capability in RTX:
        assert built.engine is not None
        assert len(built.engine.scratch_bytes) == 1
        assert notes.told == []
    else:
        assert built.engine is None
        assert "can not be loaded here" in notes.told[0]
