"""What needs CUDA's packages, but no driver and no device."""

import pytest

from trtserve.device.cuda_runtime import CudaCalls


@pytest.fixture
def calls() -> CudaCalls:
    pytest.importorskip("cuda.bindings")
    pytest.importorskip("cuda.core")
    return CudaCalls("cuda:0")


@pytest.mark.parametrize(
    ("text", "name", "sticky"),
    [
        ("CUDA_ERROR_ILLEGAL_ADDRESS: long words", "cudaErrorIllegalAddress", True),
        ("CUDA_ERROR_ILLEGAL_ADDRESS", "cudaErrorIllegalAddress", True),
        ("cudaErrorLaunchFailure: long words", "cudaErrorLaunchFailure", True),
        ("CUDA_ERROR_OUT_OF_MEMORY: long words", "cudaErrorMemoryAllocation", False),
        ("CUDA_ERROR_NOT_READY: long words", "cudaErrorNotReady", False),
    ],
)
def test_errors_of_cuda_core_by_their_names(calls, text, name, sticky):
    error = calls.translated(RuntimeError(text), "waiting for a stream")
    assert (error.name, error.sticky) == (name, sticky)
    assert str(error).startswith("cuda:0: waiting for a stream: ")
    assert "long words" not in str(error)


def test_empty_pieces_are_left_out_of_a_batch(calls):
    calls.copy_batch([(256, 512, 0), (1024, 2048, 0)], 1)
