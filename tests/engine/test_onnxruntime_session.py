import pytest

from trtserve.engine.onnxruntime_installed import CPU, CUDA
from trtserve.engine.onnxruntime_session import (
    CudaParameters,
    free_dimensions,
    left_behind,
    provider_options,
    read_parameters,
)
from trtserve.errors import ModelLoadError

DEFAULTS = CudaParameters()


# --- options -----------------------------------------------------------------------------


def test_a_session_on_a_stream():
    assert provider_options(DEFAULTS, 1, 0xABC, 5_000, graphs=False) == {
        "device_id": "1",
        "user_compute_stream": str(0xABC),
        "do_copy_in_default_stream": "1",
        "arena_extend_strategy": "kSameAsRequested",
        "cudnn_conv_algo_search": "HEURISTIC",
        "prefer_nhwc": "0",
        "gpu_mem_limit": "5000",
    }


def test_a_session_whose_runs_may_be_captured():
    options = provider_options(DEFAULTS, 0, 7, None, graphs=True)
    assert options["enable_cuda_graph"] == "1"
    assert "gpu_mem_limit" not in options


def test_a_session_without_a_stream():
    assert "user_compute_stream" not in provider_options(DEFAULTS, 0, None, 1, graphs=False)


def test_what_is_configured_comes_before_what_is_free():
    parameters = read_parameters("m", {"gpu_mem_limit": "300", "other": "1"})
    assert provider_options(parameters, 0, 7, 5_000, graphs=False)["gpu_mem_limit"] == "300"


@pytest.mark.parametrize(
    ("value", "search"),
    [("EXHAUSTIVE", "EXHAUSTIVE"), ("default", "DEFAULT"),
     # Triton's numbers.
     ("0", "EXHAUSTIVE"), ("1", "HEURISTIC"), ("2", "DEFAULT")],
)
def test_the_search_for_convolutions(value, search):
    parameters = read_parameters("m", {"cudnn_conv_algo_search": value})
    options = provider_options(parameters, 0, 7, None, graphs=False)
    assert options["cudnn_conv_algo_search"] == search


@pytest.mark.parametrize(
    ("name", "value", "cure"),
    [
        ("gpu_mem_limit", "0", "number of bytes"),
        ("gpu_mem_limit", "2G", "number of bytes"),
        ("gpu_mem_limit", "-1", "number of bytes"),
        ("cudnn_conv_algo_search", "3", "EXHAUSTIVE, HEURISTIC, DEFAULT"),
        ("cudnn_conv_algo_search", "fast", "EXHAUSTIVE, HEURISTIC, DEFAULT"),
    ],
)
def test_parameters_that_mean_nothing(name, value, cure):
    with pytest.raises(ModelLoadError, match=f"parameter {name} is '{value}'") as caught:
        read_parameters("models/m.onnx", {name: value})
    assert caught.value.where == "models/m.onnx"
    assert cure in caught.value.cure


# --- sizes -------------------------------------------------------------------------------


def test_sizes_of_symbols():
    declared = [("N", 3, "H", None), ("N", "K")]
    assert free_dimensions(declared, [(4, 3, 32, 8), (4, 5)]) == {"N": 4, "H": 32, "K": 5}


def test_one_symbol_for_two_sizes():
    assert free_dimensions([("N", "N", "M")], [(2, 3, 4)]) == {"M": 4}
    assert free_dimensions([("N",), ("N", "")], [(2,), (3, 4)]) == {}


# --- where nodes are ---------------------------------------------------------------------


def test_everything_on_the_device():
    assert left_behind([(CUDA, "Conv"), (CUDA, "Relu")], CUDA) == ()
    assert left_behind([], CUDA) == ()
    assert left_behind([(CPU, "Det")], CPU) == ()


def test_shapes_may_be_computed_on_the_cpu():
    assert left_behind([(CUDA, "Conv"), (CPU, "Gather"), (CPU, "Concat")], CUDA) == ()


def test_other_work_on_the_cpu_is_named_once():
    nodes = [(CUDA, "Conv"), (CPU, "Unique"), (CPU, "Det"), (CPU, "Det"), (CPU, "Gather")]
    assert left_behind(nodes, CUDA) == ("Det", "Unique")


def test_a_model_that_is_all_on_the_cpu():
    # Not shapes: the provider has these operators, but not for the model's type.
    assert left_behind([(CPU, "Add"), (CPU, "Mul")], CUDA) == ("Add", "Mul")
