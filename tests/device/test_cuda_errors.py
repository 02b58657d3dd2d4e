import pytest

from trtserve.device.cuda_errors import STICKY, device_error, unusable, version

ALSO_STICKY = {214, 220, 709, 999}


def test_the_table_has_what_cuda_calls_the_end_of_a_process():
    runtime = pytest.importorskip("cuda.bindings.runtime")
    fatal = {
        int(error) for error in runtime.cudaError_t
        if "process must be terminated and relaunched" in " ".join((error.__doc__ or "").split())
    }
    assert fatal
    assert fatal | ALSO_STICKY == STICKY


@pytest.mark.parametrize("number", [700, 719, 999])
def test_sticky(number):
    assert device_error(number, "name", "text", "doing").sticky


@pytest.mark.parametrize("number", [1, 2, 400, 600, *range(900, 909)])
def test_not_sticky(number):
    assert not device_error(number, "name", "text", "doing").sticky


def test_the_message():
    error = device_error(2, "cudaErrorMemoryAllocation", "out of memory", "cuda:0: allocating")
    assert error.name == "cudaErrorMemoryAllocation"
    assert str(error) == "cuda:0: allocating: out of memory (cudaErrorMemoryAllocation, 2)"


@pytest.mark.parametrize(
    ("number", "driver", "said"),
    [
        (35, 0, "no NVIDIA driver"),
        (35, 12080, "CUDA 12.8 at most"),
        (0, 12080, "CUDA 12.8 at most"),
        (100, 13000, "CUDA_VISIBLE_DEVICES"),
        (802, 13000, "(cudaErrorSystemNotReady, 802)"),
    ],
)
def test_why_cuda_can_not_be_used(number, driver, said):
    assert said in unusable(number, "cudaErrorSystemNotReady", driver)


def test_cuda_can_be_used():
    assert unusable(0, "cudaSuccess", 13000) == ""


@pytest.mark.parametrize(("number", "text"), [(13000, "13.0"), (12080, "12.8"), (13030, "13.3")])
def test_versions(number, text):
    assert version(number) == text
