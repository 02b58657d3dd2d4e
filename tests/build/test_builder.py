import os
import signal
import threading

import pytest
import tensorrt_rtx

from examples.ocr.models import model_files
from trtserve.build.builder import BuildOrder, PlanBuilder
from trtserve.build.progress import BuildCancelled, Silent
from trtserve.errors import ConfigurationError, ModelLoadError
from trtserve.model.plan_manifest import PlanGpu, PlanOptions, PlanProfile
from trtserve.model.spec import ShapeRange
from trtserve.testing.models import make_add, make_matmul, make_nonzero

OCR = model_files()["det"].parent


class Watcher(Silent):
    """Keeps what it is told."""

    def __init__(self):
        self.notes = []
        self.steps = []

    def note(self, text):
        self.notes.append(text)

    def advance(self, fraction, phase):
        self.steps.append((fraction, phase))


def profile(*shapes, name="x", **others):
    return PlanProfile("usual", {name: ShapeRange(shapes[0], shapes[2], shapes[1]), **others})


def build(path, *profiles, observer=None, **options):
    builder = PlanBuilder(tensorrt_rtx, None, "no GPU here", None, observer or Silent())
    return builder.build(BuildOrder(path, profiles, PlanOptions(**options), "the model"))


@pytest.fixture
def matmul(tmp_path):
    path = tmp_path / "matmul.onnx"
    make_matmul(str(path), 64, 32)
    return path


def test_a_plan_is_built_with_what_is_known_about_it(matmul):
    built = build(matmul, profile((1, 64), (8, 64), (32, 64)))
    assert len(built.plan) > 64 * 32 * 4
    assert bytes(built.plan[:4]) == b"vtrt"
    assert built.seconds > 0
    assert built.engine is None
    assert built.timing_cache == ""
    assert built.user_allocation
    network = built.network
    assert (network.inputs, network.outputs) == (("x",), ("y",))
    assert network.tensors["x"].shape == (-1, 64)
    assert network.tensors["y"].datatype == "FP32"
    assert [layer.type for layer in network.layers] == ["CONSTANT", "MATRIX_MULTIPLY"]
    product = network.layers[1]
    assert product.inputs[0] == "x"
    assert product.outputs == ("y",)


def test_a_model_of_fixed_shapes_needs_no_profile(tmp_path):
    path = tmp_path / "fixed.onnx"
    make_add(str(path), 1.0, (4, 16))
    assert build(path).network.tensors["x"].shape == (4, 16)


def test_one_plan_has_all_profiles_in_order(matmul):
    one = build(matmul, profile((1, 64), (1, 64), (1, 64)))
    two = build(matmul, profile((1, 64), (1, 64), (1, 64)), profile((2, 64), (8, 64), (32, 64)))
    assert len(two.plan) > len(one.plan)


def test_progress_grows_to_the_end(matmul):
    watcher = Watcher()
    build(matmul, profile((1, 64), (8, 64), (32, 64)), observer=watcher)
    fractions = [fraction for fraction, _ in watcher.steps]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0
    assert len(set(fractions)) > 5
    assert {"Building engine", "Timing graph nodes"} <= {phase for _, phase in watcher.steps}


def test_ctrl_c_ends_the_build(matmul):
    class Interrupting(Watcher):
        """Presses Ctrl-C at the first step, and waits until it was noticed."""

        noticed = threading.Event()

        def note(self, text):
            super().note(text)
            self.noticed.set()

        def advance(self, fraction, phase):
            if not self.steps:
                os.kill(os.getpid(), signal.SIGINT)
                assert self.noticed.wait(10)
            super().advance(fraction, phase)

    watcher = Interrupting()
    with pytest.raises(BuildCancelled, match="Nothing was written"):
        build(matmul, profile((1, 64), (8, 64), (32, 64)), observer=watcher)
    assert "Cancelling" in watcher.notes[0]
    assert watcher.steps[-1][1] in ("", "Building engine")
    assert "Timing graph nodes" not in {phase for _, phase in watcher.steps}


def test_an_observer_that_fails_ends_the_build_and_not_the_process(matmul):
    class Failing(Silent):
        def advance(self, fraction, phase):
            raise OSError("the terminal is gone")

    with pytest.raises(OSError, match="terminal is gone"):
        build(matmul, profile((1, 64), (8, 64), (32, 64)), observer=Failing())


def test_the_ocr_models_are_built():
    built = build(
        OCR / "ch_PP-OCRv4_det_infer.onnx",
        profile((1, 3, 32, 32), (1, 3, 640, 640), (4, 3, 960, 960)),
    )
    assert len(built.network.layers) > 300
    assert len(built.plan) > 1 << 20


# --- failures: each has TensorRT's reason and a cure ------------------------------------------


def failure(path, *profiles, **options):
    with pytest.raises(ModelLoadError) as raised:
        build(path, *profiles, **options)
    assert raised.value.where == "the model"
    return raised.value


def test_dimensions_that_share_a_name_are_said_and_cured():
    error = failure(
        OCR / "ch_ppocr_mobile_v2.0_cls_infer.onnx",
        profile((1, 3, 48, 192), (8, 3, 48, 192), (32, 3, 48, 192)),
    )
    assert "Input dimensions with this name" in error.problem
    assert "shapeContext.cpp" not in error.problem
    assert error.problem.count("Error Code") == 1
    assert "--fix" in error.cure


def test_no_profile_for_a_dynamic_input(matmul):
    error = failure(matmul)
    assert "no optimization profile has been defined" in error.problem
    assert "--sizes" in error.cure


def test_a_profile_in_the_wrong_order(matmul):
    error = failure(matmul, profile((8, 64), (1, 64), (32, 64)))
    assert "profile 'usual' is refused" in error.problem
    assert "MIN<=OPT<=MAX" in error.problem
    assert "cudaError" not in error.problem


def test_a_profile_that_does_not_fit(matmul):
    error = failure(matmul, profile((1, 65), (8, 65), (32, 65)))
    assert "Dimension mismatch" in error.problem
    assert "min <= opt <= max" in error.cure


def test_an_operator_that_is_not_taken_is_named(tmp_path):
    path = tmp_path / "nonzero.onnx"
    make_nonzero(str(path))
    error = failure(path, profile((1, 1), (8, 8), (8, 8)))
    assert "NonZero" in error.problem
    assert "UNSUPPORTED_NODE" in error.problem
    assert "serve the ONNX file itself" in error.cure


def test_a_file_that_is_no_model(tmp_path):
    path = tmp_path / "broken.onnx"
    path.write_bytes(b"nonsense")
    assert "ONNX parser refuses" in failure(path).problem


# --- what a module does not do ----------------------------------------------------------------


def check(module=tensorrt_rtx, gpu=None, **options):
    PlanBuilder(module, gpu, "the driver is missing", None, Silent()).check(PlanOptions(**options))


def test_compute_capabilities_are_those_of_the_module(matmul):
    check(compute_capabilities=("SM86", "SM120"))
    with pytest.raises(ConfigurationError, match=r"SM90.*SM80, SM86, SM89") as raised:
        check(compute_capabilities=("SM86", "SM90"))
    assert "CURRENT" not in raised.value.cure
    one = build(matmul, profile((1, 64), (1, 64), (1, 64)), compute_capabilities=("SM86",))
    both = build(
        matmul, profile((1, 64), (1, 64), (1, 64)), compute_capabilities=("SM86", "SM120")
    )
    # The header's bits for them.
    assert (one.plan[32], both.plan[32]) == (0x04, 0x14)


@pytest.mark.parametrize(
    "options", [{"version_compatible": True}, {"hardware_compatibility": "ampere_plus"}]
)
def test_rtx_refuses_what_it_would_ignore_or_fail_on(options):
    with pytest.raises(ConfigurationError) as raised:
        check(**options)
    assert raised.value.where in options


class OtherModule:
    """As much of the module `tensorrt` as is asked before anything is built."""

    __name__ = "tensorrt"


def test_tensorrt_itself_needs_the_gpu():
    module = OtherModule()
    check(module, PlanGpu("NVIDIA L4", "8.9"))
    with pytest.raises(ModelLoadError, match="the driver is missing") as raised:
        check(module)
    assert "--module tensorrt_rtx" in raised.value.cure
    with pytest.raises(ConfigurationError, match="builds for the GPU that is here"):
        check(module, PlanGpu("NVIDIA L4", "8.9"), compute_capabilities=("SM86",))
