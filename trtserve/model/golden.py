"""Golden cases: inputs of a version with the outputs that they must give.

    MODEL/VERSION/golden/NAME.npz           arrays `inputs/TENSOR` and `outputs/TENSOR`
    MODEL/VERSION/golden/tolerances.json    optional: how far outputs may be off

A value may be off by `atol` + `rtol` times what is expected. Pure but for reading the files.
"""

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any
from zipfile import BadZipFile, is_zipfile

import ml_dtypes
import msgspec
import numpy as np

from trtserve.errors import InvalidRequest, ModelLoadError
from trtserve.model.spec import TensorSpec, VersionSpec
from trtserve.model.tensor import DATATYPES, datatype_of

FOLDER = "golden"
TOLERANCES = "tolerances.json"

RTOL = {"FP64": 1e-6, "FP32": 1e-3, "FP16": 1e-2, "BF16": 5e-2}
"""The tolerance of each datatype, where none is given: what other kernels and orders of adding up
make of a sum. Integers, BOOL and BYTES must be equal."""

LEAST_ATOL = 1e-6
"""Without `atol`: `rtol` times the largest magnitude of the expected output, at least this."""

INPUTS, OUTPUTS = "inputs/", "outputs/"
"""What the names of arrays begin with."""

Arrays = Mapping[str, np.ndarray[Any, Any]]

_NotNegative = Annotated[float, msgspec.Meta(ge=0)]


class Tolerance(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How far an output may be off; None: by default (see RTOL and LEAST_ATOL)."""

    rtol: _NotNegative | None = None
    atol: _NotNegative | None = None


class Tolerances(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """For all outputs, and for some of them other ones."""

    rtol: _NotNegative | None = None
    atol: _NotNegative | None = None
    outputs: dict[str, Tolerance] = msgspec.field(default_factory=dict)

    def of(self, output: str) -> Tolerance:
        """What holds for an output."""
        own = self.outputs.get(output, Tolerance())
        return Tolerance(
            self.rtol if own.rtol is None else own.rtol,
            self.atol if own.atol is None else own.atol,
        )


@dataclass(frozen=True, slots=True)
class GoldenCase:
    """One file: inputs and expected outputs by name, as they were written."""

    path: Path
    inputs: Arrays
    outputs: Arrays

    def error(self, problem: str, cure: str) -> ModelLoadError:
        """An error about this case. Its text has no path: clients see it too."""
        return ModelLoadError(
            f"golden case {self.path.name}: {problem}", where=str(self.path), cure=cure
        )


@dataclass(frozen=True, slots=True)
class Golden:
    """All cases of a version."""

    cases: tuple[GoldenCase, ...] = ()
    tolerances: Tolerances = field(default_factory=Tolerances)


def read_golden(version: Path, spec: VersionSpec) -> Golden:
    """Read a version's golden cases, and check their names; none if it has no such folder.

    Raises ModelLoadError for what can not be read and for tensors that the version has not.
    """
    folder = version / FOLDER
    if not folder.is_dir():
        return Golden()
    try:
        paths = sorted(
            path for path in folder.iterdir()
            if path.suffix == ".npz" and not path.name.startswith(".")
        )
    except OSError as error:
        raise ModelLoadError(
            f"the golden cases can not be read: {error.strerror}", where=str(folder),
            cure="Let this user read it",
        ) from error
    if not paths:
        raise ModelLoadError(
            "the folder of golden cases holds none", where=str(folder),
            cure="Put NAME.npz files into it, or remove it",
        )
    tolerances = _read_tolerances(folder / TOLERANCES, spec)
    return Golden(tuple(_read_case(path, spec) for path in paths), tolerances)


def arrange(case: GoldenCase, spec: VersionSpec) -> list[np.ndarray[Any, Any]]:
    """The inputs in the version's order, in its datatypes. Raises ModelLoadError."""
    return [_as_input(case, tensor) for tensor in spec.inputs]


def difference(
    name: str, datatype: str, expected: np.ndarray[Any, Any], actual: np.ndarray[Any, Any],
    tolerance: Tolerance,
) -> str:
    """What sets an output apart from what is expected, beyond the tolerance; "" for nothing."""
    if expected.shape != actual.shape:
        return (
            f"output '{name}' has shape {list(actual.shape)}, where {list(expected.shape)} is "
            "expected"
        )
    if datatype == "BYTES":
        return _text_difference(name, expected, actual)
    rtol = RTOL.get(datatype, 0.0) if tolerance.rtol is None else tolerance.rtol
    if tolerance == Tolerance() and datatype not in RTOL:
        wrong = expected != actual  # exact, where float64 would round large integers
    else:
        wrong = np.zeros(expected.shape, np.bool_)
    left, right = expected.astype(np.float64), actual.astype(np.float64)
    atol = tolerance.atol
    if atol is None:
        atol = max(rtol * _largest(left), LEAST_ATOL) if datatype in RTOL else 0.0
    wrong = wrong | ~np.isclose(right, left, rtol=rtol, atol=atol, equal_nan=True)
    count = int(wrong.sum())
    if not count:
        return ""
    with np.errstate(invalid="ignore"):
        off = np.where(wrong, np.abs(left - right), -1.0)
    off = np.where(np.isnan(off), np.inf, off)
    place = np.unravel_index(int(off.argmax()), off.shape)
    return (
        f"output '{name}' is {actual[place]!s} at {[int(index) for index in place]}, where "
        f"{expected[place]!s} is expected: off by {off[place]:.3g}, the largest difference; "
        f"{count} of {wrong.size} values are off by more than {atol:.3g} + {rtol:.3g} of the "
        "value"
    )


def _largest(values: np.ndarray[Any, Any]) -> float:
    finite = np.abs(values[np.isfinite(values)])
    return float(finite.max()) if finite.size else 0.0


def _text_difference(
    name: str, expected: np.ndarray[Any, Any], actual: np.ndarray[Any, Any]
) -> str:
    wrong = [
        index
        for index, (left, right) in enumerate(
            zip(expected.reshape(-1).tolist(), actual.reshape(-1).tolist(), strict=True)
        )
        if _as_bytes(left) != _as_bytes(right)
    ]
    if not wrong:
        return ""
    place = [int(each) for each in np.unravel_index(wrong[0], expected.shape)]
    return (
        f"output '{name}' has another text at {place} than is expected, and {len(wrong)} of "
        f"{expected.size} differ"
    )


def _as_bytes(element: str | bytes) -> bytes:
    return element.encode() if isinstance(element, str) else element


# --- reading -----------------------------------------------------------------------------


def _read_case(path: Path, spec: VersionSpec) -> GoldenCase:
    try:
        # Opened here: NumPy leaves a file open that proves to be no archive.
        with path.open("rb") as stream:
            if not is_zipfile(stream):
                raise BadZipFile("it is no archive of arrays")
            stream.seek(0)
            with np.load(stream, allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
    except (OSError, EOFError, RuntimeError, ValueError, BadZipFile, zlib.error) as error:
        raise ModelLoadError(
            f"golden case {path.name} can not be read: {error}", where=str(path),
            cure="Write it with numpy.savez, with arrays of plain datatypes and no objects",
        ) from error
    case = GoldenCase(path, _part(arrays, INPUTS), _part(arrays, OUTPUTS))
    strange = [name for name in arrays if not name.startswith((INPUTS, OUTPUTS))]
    if strange:
        raise case.error(
            f"array '{strange[0]}' is neither an input nor an output",
            "Call arrays inputs/TENSOR and outputs/TENSOR",
        )
    _check_names(case, "input", case.inputs, spec.inputs)
    _check_names(case, "output", case.outputs, spec.outputs)
    missing = [tensor.name for tensor in spec.inputs if tensor.name not in case.inputs]
    if missing:
        raise case.error(f"input '{missing[0]}' is missing", "Give every input of the model")
    if not case.outputs:
        raise case.error("it expects no output", "Add an array outputs/TENSOR")
    return case


def _part(arrays: Arrays, prefix: str) -> dict[str, np.ndarray[Any, Any]]:
    return {
        name.removeprefix(prefix): array
        for name, array in arrays.items() if name.startswith(prefix)
    }


def _check_names(
    case: GoldenCase, kind: str, given: Arrays, tensors: Sequence[TensorSpec]
) -> None:
    known = [tensor.name for tensor in tensors]
    for name in given:
        if name not in known:
            raise case.error(
                f"the model has no {kind} '{name}'", f"It has {', '.join(known)}"
            )


def _read_tolerances(path: Path, spec: VersionSpec) -> Tolerances:
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        return Tolerances()
    except OSError as error:
        raise ModelLoadError(
            f"{TOLERANCES} can not be read: {error.strerror}", where=str(path),
            cure="Let this user read it",
        ) from error
    try:
        found = msgspec.json.decode(text, type=Tolerances)
    except msgspec.MsgspecError as error:
        raise ModelLoadError(
            f"{TOLERANCES} is wrong: {error}", where=str(path),
            cure='Write it like {"rtol": 1e-3, "atol": 1e-5, "outputs": {"y": {"rtol": 1e-2}}}',
        ) from error
    known = [tensor.name for tensor in spec.outputs]
    for name in found.outputs:
        if name not in known:
            raise ModelLoadError(
                f"{TOLERANCES} names '{name}', which is no output of the model",
                where=str(path), cure=f"It has {', '.join(known)}",
            )
    return found


def _as_input(case: GoldenCase, tensor: TensorSpec) -> np.ndarray[Any, Any]:
    """An input as the model takes it. NumPy files know no BF16: it comes as FP32, or as the two
    bytes of each value."""
    array = case.inputs[tensor.name]
    kind = DATATYPES[tensor.datatype].numpy
    if tensor.datatype == "BF16" and (array.dtype == np.float32 or array.dtype.str[1:] == "V2"):
        return array.astype(kind) if array.dtype == np.float32 else array.view(kind)
    if len(array.shape) != len(tensor.shape):
        raise case.error(
            f"input '{tensor.name}' has shape {list(array.shape)}, and the model takes "
            f"{len(tensor.shape)} dimensions", "Write whole shapes, with the batch dimension",
        )
    try:
        datatype = datatype_of(array)
    except InvalidRequest:
        datatype = str(array.dtype)
    if datatype != tensor.datatype:
        raise case.error(
            f"input '{tensor.name}' is {datatype}, and the model takes {tensor.datatype}",
            f"Write it as {kind}",
        )
    return array if datatype == "BYTES" else array.astype(kind)


def as_expected(
    case: GoldenCase, tensor: TensorSpec
) -> np.ndarray[Any, Any]:
    """An expected output. One of floating point may be written in another type of that kind.
    Raises ModelLoadError for a type that can not be compared."""
    array = case.outputs[tensor.name]
    if tensor.datatype == "BF16" and array.dtype.str[1:] == "V2":
        return array.view(ml_dtypes.bfloat16)
    plain = array.dtype.kind in ("SU" if tensor.datatype == "BYTES" else "biuf")
    if not plain:
        raise case.error(
            f"output '{tensor.name}' is {array.dtype}, and the model gives {tensor.datatype}",
            f"Write it as {DATATYPES[tensor.datatype].numpy}",
        )
    return array
