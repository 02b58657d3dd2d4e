import pytest
import tensorrt_rtx

from trtserve.build.messages import cure, message_log, readable


def test_warnings_and_errors_are_kept_once_each():
    log = message_log(tensorrt_rtx)
    severity = tensorrt_rtx.ILogger.Severity
    for level, text in (
        (severity.VERBOSE, "detail"), (severity.INFO, "news"), (severity.WARNING, "beware"),
        (severity.ERROR, "bad"), (severity.ERROR, "bad"), (severity.INTERNAL_ERROR, "worse"),
    ):
        log.log(level, text)
    assert (log.warnings, log.errors) == (["beware"], ["bad", "worse"])


def test_the_module_s_own_calls_reach_the_log():
    log = message_log(tensorrt_rtx)
    assert tensorrt_rtx.Runtime(log).deserialize_cuda_engine(b"nonsense") is None
    assert log.errors


def test_places_in_foreign_sources_and_repetitions_are_left_out():
    assert readable([
        "A: Error Code 4: API Usage Error (Too small. In validate at /_src/network.cpp:4054)",
        "A: Error Code 4: API Usage Error (Too small. In check at /_src/network.cpp:9)",
        "[checkMacros.cpp::catchCudaError::250] Error Code 1: Cuda Runtime (cudaError 35)",
        "two", "three", "four",
    ]) == "A: Error Code 4: API Usage Error (Too small.); two; three"


@pytest.mark.parametrize(
    ("message", "word"),
    [
        ("Input dimensions with this name have different constant values", "--fix"),
        ("Network has dynamic or shape inputs, but no optimization profile has been defined",
         "--profile"),
        ("please ensure that the optimization profiles satisfy MIN<=OPT<=MAX", "min <= opt"),
        ("Error Code 1: Cuda Runtime (cudaError 35: CUDA driver version is insufficient)",
         "--compute-capability"),
        ("[virtualMemoryBuffer.cpp] OutOfMemory (Requested size was 4294967296 bytes.)",
         "--workspace"),
        ("Could not find any implementation for node {ForeignNode[a...b]}", "--workspace"),
        ("Unable to load library: libnvinfer_lean.so.1", "lean runtime"),
        ("No importer registered for op: Foo. Attempting to import as plugin.", "ONNX file"),
    ],
)
def test_known_reasons_have_a_cure(message, word):
    assert word in cure(["something before", message])


def test_an_unknown_reason_has_the_given_cure():
    assert cure(["the moon is full"], "wait") == "wait"
