"""ONNX Runtime's messages, made readable: one line, the cause, and a cure where one is known."""

import re

from trtserve.errors import ModelLoadError

_NOISE = re.compile(
    r"\[ONNXRuntimeError\] : \d+ : \w+ : "
    r"|\S+\.(?:cc|h|cpp):\d+ "  # a place in its sources
    r"|(?:[\w:<>*&~,]+ )*[\w:<>~]+::[\w:<>~]+\(.*?\)(?: const)? "  # the function there
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
