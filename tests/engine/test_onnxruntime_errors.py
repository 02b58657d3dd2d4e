import pytest

from trtserve.device.cuda_errors import STICKY
from trtserve.engine.onnxruntime_errors import (
    FileErrors,
    device_lost,
    lacks_kernel,
    readable,
    refuses_graphs,
    shortage,
)
from trtserve.errors import DeviceError, ExecutionFailed, ModelLoadError
from trtserve.testing.clock import FakeClock
from trtserve.testing.device import FakeDevice


def cuda_failure(code: int, text: str = "some cause") -> RuntimeError:
    """As ONNX Runtime words it."""
    return RuntimeError(
        "[ONNXRuntimeError] : 1 : FAIL : Non-zero status code returned while running Conv node. "
        "Name:'conv1' Status Message: /src/core/providers/cuda/cuda_call.cc:131 "
        "std::conditional_t<THRW, void, onnxruntime::common::Status> onnxruntime::CudaCall("
        "ERRTYPE, const char*, const char*, SUCCTYPE, const char*, const char*, int) [with "
        "ERRTYPE = cudaError; bool THRW = true; SUCCTYPE = cudaError; std::conditional_t<THRW, "
        f"void, common::Status> = void] CUDA failure {code}: {text} ; GPU=0 ; hostname=secret ; "
        "file=/src/core/providers/cuda/conv.cc ; line=77 ; expr=cudaMemcpyAsync(a, b); \n"
    )


ARENA = RuntimeError(
    "[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : Exception during initialization: "
    "/src/core/framework/bfc_arena.cc:376 void* onnxruntime::BFCArena::AllocateRawInternal(size_t, "
    "bool, onnxruntime::Stream*) Failed to allocate memory for requested buffer of size 67108864\n"
)
LIMIT = RuntimeError(
    "[ONNXRuntimeError] : 1 : FAIL : /src/bfc_arena.cc:165 Available memory of 1024 is smaller "
    "than requested bytes of 4096"
)
REFUSED = RuntimeError(
    "[ONNXRuntimeError] : 1 : FAIL : This session cannot use the graph capture feature as "
    "requested by the user as the model has control flow nodes"
)


@pytest.fixture
def device() -> FakeDevice:
    device = FakeDevice(FakeClock())
    device.name = "cuda:3"
    device.total_bytes = 8_000
    return device


@pytest.fixture
def errors(tmp_path, device) -> FileErrors:
    path = tmp_path / "model.onnx"
    path.write_bytes(bytes(1234))
    return FileErrors(str(path), "1.31.1", device, None)


def test_a_cause_without_the_places_it_comes_from():
    message = readable(cuda_failure(701, "too many resources requested for launch"))
    assert message == (
        "Non-zero status code returned while running Conv node. Name:'conv1' Status Message: "
        "CUDA failure 701: too many resources requested for launch"
    )


@pytest.mark.parametrize("code", sorted(STICKY))
def test_errors_that_end_the_process(errors, code):
    lost = device_lost(cuda_failure(code))
    assert lost is not None
    assert lost.sticky
    assert lost.name.startswith("cudaError")
    assert "secret" not in str(lost)
    assert isinstance(errors.run(cuda_failure(code), first=True), DeviceError)
    assert isinstance(errors.load(cuda_failure(code)), DeviceError)


def test_an_error_that_is_told_by_name():
    lost = device_lost(RuntimeError("CUDA error cudaErrorIllegalAddress:an illegal memory access"))
    assert lost is not None
    assert (lost.name, lost.sticky) == ("cudaErrorIllegalAddress", True)
    assert device_lost(RuntimeError("CUDA error cudaErrorInvalidValue:invalid argument")) is None


@pytest.mark.parametrize("code", [1, 2, 400, 600, 701, 900, 901, 7000])
def test_errors_that_do_not(errors, code):
    assert device_lost(cuda_failure(code)) is None
    assert isinstance(errors.run(cuda_failure(code), first=False), ExecutionFailed)
    assert isinstance(errors.load(cuda_failure(code)), ModelLoadError)


def test_other_libraries_have_numbers_of_their_own(errors):
    error = RuntimeError("CUDNN failure 700: CUDNN_STATUS_SOMETHING ; GPU=0 ; hostname=secret")
    assert device_lost(error) is None
    failure = errors.run(error, first=True)
    assert isinstance(failure, ExecutionFailed)
    assert str(failure) == "CUDNN failure 700: CUDNN_STATUS_SOMETHING"


def test_how_much_memory_was_short():
    assert shortage(ARENA) == 67108864
    assert shortage(LIMIT) == 4096
    assert shortage(cuda_failure(2, "out of memory")) == 0
    assert shortage(RuntimeError("CUBLAS failure 3: CUBLAS_STATUS_ALLOC_FAILED")) == 0
    assert shortage(cuda_failure(700)) is None
    assert shortage(RuntimeError("CUDA failure 214: uncorrectable")) is None


def test_too_little_memory_names_bytes_and_cures(errors, device):
    buffer = device.allocate(3_000)
    error = errors.load(ARENA)
    assert isinstance(error, ModelLoadError)
    assert error.where.endswith("model.onnx")
    assert error.problem == (
        "cuda:3 has too little memory for it: it needs 67,108,864 bytes more; 5,000 of 8,000 bytes "
        "are free"
    )
    assert error.cure == "Set fewer lanes or a smaller max_batch_size"
    assert "gpu_mem_limit" not in str(error)
    buffer.close()


def test_too_little_memory_where_nobody_says_how_much(errors, device):
    device.total_bytes = None
    problem = str(errors.load(cuda_failure(2, "out of memory")))
    assert "needs at least the 1,234 bytes of its file" in problem
    assert "free" not in problem


def test_a_limit_that_is_too_small(errors, device):
    limited = FileErrors(errors.path, errors.version, device, 2048)
    error = limited.load(LIMIT)
    assert isinstance(error, ModelLoadError)
    assert "its gpu_mem_limit is 2,048" in error.problem
    assert error.cure == "Set a larger gpu_mem_limit, fewer lanes or a smaller max_batch_size"


def test_memory_for_the_first_run_belongs_to_loading(errors):
    assert isinstance(errors.run(ARENA, first=True), ModelLoadError)
    later = errors.run(ARENA, first=False)
    assert isinstance(later, ExecutionFailed)
    assert "67,108,864 bytes more" in str(later)


def test_why_a_session_was_not_made():
    assert refuses_graphs(REFUSED)
    assert not refuses_graphs(ARENA)
    assert lacks_kernel(RuntimeError("[ONNXRuntimeError] : 9 : NOT_IMPLEMENTED : Could not find"))
    assert not lacks_kernel(ARENA)
