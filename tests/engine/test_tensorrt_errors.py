import gc
import threading
import weakref

import pytest

from trtserve.engine.tensorrt_errors import PlanErrors, message_log, readable
from trtserve.errors import DeviceError, ModelLoadError
from trtserve.testing.clock import FakeClock
from trtserve.testing.device import FakeDevice
from trtserve.testing.tensorrt import HostMachine, make_module

# As TensorRT-RTX 1.7.1 says them, without a GPU.
MAGIC = (
    "IRuntime::deserializeCudaEngine: Error Code 1: Serialization (Serialization assertion "
    "header.magicTag == kEXPECTED_MAGIC_TAG failed.Trying to load an engine created with "
    "incompatible serialization version (2021161080 != 1953657974). Check that the engine was "
    "not created using safety runtime, same OS was used and version compatibility parameters "
    "were set accordingly and that it is a TRT engine file. In throwUnlessHeaderOk at "
    "/_src/runtime/dispatch/runtime.cpp:48)"
)
SHORT = (
    "[runtime.cpp::readHeader::765] Error Code 2: Internal Error (Assertion bufferSize >= "
    "minBufferSize failed.  In readHeader at /_src/runtime/dispatch/runtime.cpp:765)"
)
CUT = (
    "IRuntime::deserializeCudaEngine: Error Code 1: Serialization (Serialization assertion "
    "plan.header.size == blobSize failed. In parsePlan at /_src/runtime/dispatch/runtime.cpp:780)"
)
DRIVER = (
    "IRuntime::deserializeCudaEngine: Error Code 1: Cuda Runtime (In ScopedCudaStream at "
    "/_src/common/dispatch/cudaResources.cpp:25 (cudaError 35: CUDA driver version is "
    "insufficient for CUDA runtime version))"
)
ECHO = (
    "[checkMacros.cpp::catchCudaError::250] Error Code 1: Cuda Runtime (In catchCudaError at "
    "/_src/common/dispatch/checkMacros.cpp:250 (cudaError 35: CUDA driver version is "
    "insufficient for CUDA runtime version))"
)


@pytest.fixture
def device() -> FakeDevice:
    return FakeDevice(FakeClock())


@pytest.fixture
def errors(device) -> PlanErrors:
    module = make_module(HostMachine(device))
    return PlanErrors("a.plan", "TensorRT 11.4", device, message_log(module, "TensorRT 11.4"),
                      "Build it again")


def tell(errors: PlanErrors, *messages: str, level: str = "ERROR") -> None:
    log = errors.log
    for message in messages:
        log.log(getattr(type(log), level), message)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("messages", "problem", "cure"),
    [
        ((MAGIC, ECHO), "not a plan of this runtime", "Build it again"),
        ((SHORT, ECHO), "only a part of one", "Build it again"),
        ((CUT, ECHO), "only a part of one", "Build it again"),
        ((DRIVER, ECHO), "CUDA does not work here", "nvidia-smi"),
        (("getPluginCreator could not find plugin: Foo version: 1",), "needs a plugin", "Plugins"),
        (("Error Code 1: whatever else",), "it does not load: ", "Build it again"),
        ((), "it does not say why", "Build it again"),
    ],
)
def test_causes_and_cures(errors, messages, problem, cure):
    tell(errors, *messages)
    error = errors.load("it does not load")
    assert isinstance(error, ModelLoadError)
    assert error.where == "a.plan"
    assert problem in error.problem
    assert cure in error.cure
    assert "TensorRT 11.4 says: " in error.problem
    assert "/_src/" not in error.problem
    assert "35" not in error.problem or messages[0] is DRIVER


def test_memory_that_is_short_with_the_numbers(errors, device):
    device.total_bytes = 5000
    tell(errors, "Requested amount of GPU memory (9999 bytes) could not be allocated.")
    error = errors.load("no context")
    assert "fake has too little memory for it; 5,000 of 5,000 bytes are free" in str(error)
    assert "9999 bytes" in str(error)


def test_a_lost_device_is_what_is_told(errors, device):
    class Lost(FakeDevice):
        def memory(self) -> tuple[int, int] | None:
            raise DeviceError("lost", sticky=True)

    lost = PlanErrors("a.plan", "TensorRT", Lost(device.clock), errors.log, "")
    assert isinstance(lost.load("it does not load"), DeviceError)


def test_a_run_tells_the_runtimes_own_words(errors):
    tell(errors, "IExecutionContext::enqueueV3: Error Code 1: Cuda Driver (launch failed In "
                 "enqueue at /_src/x.cpp:3)")
    assert str(errors.run("the run failed")) == (
        "the run failed: TensorRT 11.4 says: IExecutionContext::enqueueV3: Error Code 1: Cuda "
        "Driver (launch failed)"
    )
    assert str(errors.run("it failed")) == "it failed: TensorRT 11.4 says: nothing about it"


def test_each_thread_has_its_own_messages(errors):
    other = threading.Thread(target=tell, args=(errors, "of another lane"))
    tell(errors, "of this one")
    other.start()
    other.join()
    assert errors.log.take() == ["of this one"]
    assert errors.log.take() == []


def test_what_nobody_asks_for_does_not_pile_up(errors):
    tell(errors, *(f"message {number}" for number in range(1000)))
    found = errors.log.take()
    assert len(found) < 100
    assert found[-1] == "message 999"


def test_warnings_go_into_the_log_once(errors, caplog):
    for _ in range(3):
        tell(errors, "plans of another GPU may be slow", level="WARNING")
    tell(errors, "chatter", level="INFO")
    tell(errors, "more chatter", level="VERBOSE")
    assert caplog.messages == ["TensorRT 11.4: plans of another GPU may be slow"]
    assert errors.log.take() == []


def test_warnings_that_never_end_do_not_flood_the_log(errors, caplog):
    tell(errors, *(f"of {number} bytes" for number in range(1000)), level="WARNING")
    assert 10 < len(caplog.messages) < 100
    assert caplog.messages[-2].startswith("TensorRT 11.4: of ")
    assert caplog.messages[-1] == "TensorRT 11.4 has more warnings, which are not shown"


def test_a_module_has_one_log_that_outlives_every_runtime(device):
    module = make_module(HostMachine(device))
    kept = weakref.ref(message_log(module, "TensorRT 11.4"))
    gc.collect()
    assert kept() is message_log(module, "TensorRT 11.4")
    assert message_log(make_module(HostMachine(device)), "TensorRT 11.4") is not kept()


def test_a_reason_is_short():
    assert len(readable(["x" * 1000])) == 500
    assert readable(["one", "two", "two", "three", "four"]) == "two; three; four"
