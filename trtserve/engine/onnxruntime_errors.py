"""ONNX Runtime's messages, made readable: one line, the cause, and a cure where one is known."""

import os
import re
from dataclasses import dataclass

from trtserve.device.interface import Device
from trtserve.errors import DeviceError, ExecutionFailed, ModelLoadError, TrtserveError

_NOISE = re.compile(
    r"\[ONNXRuntimeError\] : \d+ : \w+ : "
    r"|\S+\.(?:cc|h|cpp):\d+ "  # a place in its sources
    r"|(?:[\w:<>*&~,]+ )*[\w:<>~]+::[\w:<>~]+\(.*?\)(?: const)? "  # the function there
    r"|\[with [^\]]*\] "  # and the types that it is made for
    r"| ; GPU=\d+ ; hostname=.*"  # the machine's name is nobody's business
    r"|Error in execution: "
    r"|Name:'' "
    r"|Load model from .*? failed:"
    r"|Exception during loading: "
)

_MAX_LENGTH = 400
"""Characters: enough for every message seen, and safe in a gRPC status."""

_CURES = (
    # What the message contains, what to say first, what to do.
    (r"Protobuf parsing failed|No graph was found",
     "not an ONNX model, or only a part of one",
     "Copy the file again and compare its size and checksum with the original"),
    (r"External data|external data",
     "a file with the model's weights is missing or unreadable",
     "Copy the model's external data files beside it, under their original names"),
    (r"opset|IR version",
     "the model is newer than the installed ONNX Runtime {version}",
     "Update ONNX Runtime (pip install -U onnxruntime), or export with an older opset"),
    (r"No Op registered|NOT_IMPLEMENTED|is not a registered function/op",
     "the model has an operator that ONNX Runtime {version} lacks on this device",
     "Export it again with standard ONNX operators"),
)


_SHORTAGE = re.compile(
    r"requested buffer of size (\d+)|smaller than requested bytes of (\d+)"
    r"|CUDA failure 2:|STATUS_ALLOC_FAILED|out of memory"
)

_STICKY = {
    214: "cudaErrorECCUncorrectable",
    220: "cudaErrorNvlinkUncorrectable",
    226: "cudaErrorContained",
    700: "cudaErrorIllegalAddress",
    702: "cudaErrorLaunchTimeout",
    709: "cudaErrorContextIsDestroyed",
    710: "cudaErrorAssert",
    714: "cudaErrorHardwareStackError",
    715: "cudaErrorIllegalInstruction",
    716: "cudaErrorMisalignedAddress",
    717: "cudaErrorInvalidAddressSpace",
    718: "cudaErrorInvalidPc",
    719: "cudaErrorLaunchFailure",
    721: "cudaErrorTensorMemoryLeak",
    810: "cudaErrorMpsClientTerminated",
    911: "cudaErrorExternalDevice",
    999: "cudaErrorUnknown",
}
"""The errors after which the process can use the device no more, by CUDA's numbers."""


def readable(error: BaseException) -> str:
    """The cause in one line, without the addresses of source files and functions."""
    text = _NOISE.sub("", " ".join(str(error).split()) + " ").strip()
    if not text:
        return type(error).__name__
    return text if len(text) <= _MAX_LENGTH else text[: _MAX_LENGTH - 3] + "..."


def load_error(path: str, error: BaseException, version: str) -> ModelLoadError:
    """Why a file did not load. `version` is ONNX Runtime's."""
    cause = readable(error)
    for pattern, summary, cure in _CURES:
        if re.search(pattern, str(error)):
            return ModelLoadError(
                f"{summary.format(version=version)}: {cause.rstrip('.')}", where=path, cure=cure
            )
    return ModelLoadError(
        f"ONNX Runtime {version} does not load it: {cause.rstrip('.')}", where=path,
        cure="Check it with onnx.checker.check_model, or export it again",
    )


def device_lost(error: BaseException) -> DeviceError | None:
    """The sticky error of the device that a message names; None if it names none."""
    # Calls that fail are told by number, kernels by name.
    found = re.search(r"\bCUDA (?:failure (\d+)|error (\w+))", str(error))
    if found is None:
        return None
    name = _STICKY.get(int(found[1]), "") if found[1] else found[2]
    if name not in _STICKY.values():
        return None
    return DeviceError(readable(error), name=name, sticky=True)


def shortage(error: BaseException) -> int | None:
    """The bytes that could not be had; 0 if the message does not say how many, None if it is
    about something else."""
    found = _SHORTAGE.search(str(error))
    return None if found is None else int(found[1] or found[2] or 0)


def refuses_graphs(error: BaseException) -> bool:
    """Whether a session was not made because its runs could not be captured."""
    return "graph capture feature" in str(error)


def lacks_kernel(error: BaseException) -> bool:
    """Whether a session was not made because its provider lacks an operator or a type of it."""
    return bool(re.search(r"NOT_IMPLEMENTED|no fp16 kernel", str(error)))


def memory_error(
    path: str, needed: int, weights: int, device: str, memory: tuple[int, int] | None,
    limit: int | None,
) -> ModelLoadError:
    """Why a session has too little memory. `needed`: the bytes it asked for, 0 if nobody knows;
    `weights`: the file's; `memory`: what of the device is (free, total) now."""
    wants = f"{needed:,} bytes more" if needed else f"at least the {weights:,} bytes of its file"
    left = f"; {memory[0]:,} of {memory[1]:,} bytes are free" if memory else ""
    bound = f"; its gpu_mem_limit is {limit:,}" if limit is not None else ""
    more = "a larger gpu_mem_limit, " if bound else ""
    return ModelLoadError(
        f"{device} has too little memory for it: it needs {wants}{left}{bound}", where=path,
        cure=f"Set {more}fewer lanes or a smaller max_batch_size",
    )


@dataclass(frozen=True, slots=True)
class FileErrors:
    """What the failures of one file's sessions on a device mean. `version` is ONNX Runtime's,
    `limit` the configured `gpu_mem_limit`."""

    path: str
    version: str
    device: Device
    limit: int | None

    def load(self, error: BaseException) -> TrtserveError:
        """Why a session was not made."""
        return (
            device_lost(error)
            or self._about_memory(error)
            or load_error(self.path, error, self.version)
        )

    def run(self, error: BaseException, *, first: bool) -> TrtserveError:
        """What a failed run raises. `first`: its memory was yet to be taken."""
        short = self._about_memory(error)
        if short is not None:
            return short if first else ExecutionFailed(str(short))
        return device_lost(error) or ExecutionFailed(readable(error))

    def _about_memory(self, error: BaseException) -> ModelLoadError | None:
        """The error, if it is about memory, with how much of it there is."""
        needed = shortage(error)
        if needed is None:
            return None
        return memory_error(
            self.path, needed, os.path.getsize(self.path), self.device.name,
            self.device.memory(), self.limit,
        )
