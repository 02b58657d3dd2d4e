"""Three real models of the package rapidocr-onnxruntime, whose declared symbols are wrong or
missing: what the adapter returns is what plain ONNX Runtime returns."""

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from trtserve.device.host import HostDevice
from trtserve.engine.onnxruntime import OnnxRuntime
from trtserve.testing.engine import memory_of, read

DEVICE = HostDevice(lanes=2)
STREAM = DEVICE.create_stream()

# Model and the sizes to run it with.
CASES = {
    "ch_PP-OCRv4_det_infer": [(1, 3, 64, 96), (2, 3, 96, 64), (1, 3, 64, 96)],
    "ch_ppocr_mobile_v2.0_cls_infer": [(1, 3, 48, 192), (5, 3, 48, 192), (2, 3, 48, 96)],
    "ch_PP-OCRv4_rec_infer": [(1, 3, 48, 64), (3, 3, 48, 120), (1, 3, 48, 320)],
}


def model_path(name: str) -> str:
    spec = importlib.util.find_spec("rapidocr_onnxruntime")
    assert spec is not None, "pip install --no-deps rapidocr-onnxruntime"
    assert spec.origin is not None
    return str(Path(spec.origin).parent / "models" / f"{name}.onnx")


def plain_session(path: str) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("name", CASES)
def test_real_models(name):
    path = model_path(name)
    engine = OnnxRuntime().load(path, DEVICE, {})
    (variant,) = engine.variants
    assert variant.max_batch > 0
    context, reference = engine.create_context(0, STREAM), plain_session(path)
    random = np.random.default_rng(1)
    for shape in CASES[name]:
        assert variant.ranges[0].takes(shape)
        x = random.standard_normal(shape, np.float32)
        # Placed where the engine says that it knows the shape, as a lane does.
        (predicted,) = context.output_shapes([shape])
        target = None if predicted is None else np.empty(predicted, np.float32)
        placed = None if target is None else memory_of(target)
        (found,) = context.enqueue(STREAM, [memory_of(x)], [placed])
        (expected,) = reference.run(None, {"x": x})
        assert found.shape == expected.shape
        np.testing.assert_allclose(read(found), expected, rtol=1e-3, atol=1e-5)
