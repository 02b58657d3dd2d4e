"""Arrays from and for the command line: NAME=@FILE.npy, NAME=zeros:1x3x224x224, NAME=random:...

NumPy's file format knows neither BF16 nor strings of bytes of any length: BF16 is written as
FP32, which holds all its values, and BYTES as NumPy's fixed-length strings.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias
from urllib.parse import quote

import ml_dtypes
import numpy as np

from trtserve.errors import ConfigurationError
from trtserve.model.tensor import DATATYPES

if TYPE_CHECKING:
    from trtserve.client import ModelInfo

Array: TypeAlias = np.ndarray[Any, Any]

FORMS = "NAME=@FILE.npy, NAME=zeros:1x3x224x224 or NAME=random:1x3x224x224"

_FORM = re.compile(r"(?P<name>[^=]+)=(?:@(?P<path>.+)|(?P<fill>zeros|random):(?P<shape>[\dx]*))")
_SHAPE = re.compile(r"(\d+(x\d+)*)?")


@dataclass(frozen=True, slots=True)
class Source:
    """Where an input's array comes from: a file, or made with a shape by `fill`."""

    name: str
    path: Path | None = None
    fill: str = ""
    shape: tuple[int, ...] = ()


def parse_source(text: str) -> Source:
    """Read one `--input`. Raises ConfigurationError for any other form."""
    match = _FORM.fullmatch(text)
    if match is None or not _SHAPE.fullmatch(match["shape"] or ""):
        raise ConfigurationError(f"'{text}' has another form", where="--input",
                                 cure=f"Write {FORMS}")
    if match["path"] is not None:
        return Source(match["name"], Path(match["path"]))
    shape = tuple(int(dim) for dim in match["shape"].split("x") if dim)
    return Source(match["name"], None, match["fill"], shape)


def make_inputs(sources: Sequence[Source], info: "ModelInfo") -> dict[str, Array]:
    """The arrays of all `--input`s. Raises ConfigurationError, also for an input that the model
    lacks."""
    datatypes = {tensor.name: tensor.datatype for tensor in info.inputs}
    arrays: dict[str, Array] = {}
    for source in sources:
        if source.name not in datatypes:
            raise ConfigurationError(
                f"{info.name} has no input '{source.name}'", where="--input",
                cure=f"It has {', '.join(map(str, info.inputs))}",
            )
        if source.name in arrays:
            raise ConfigurationError(
                f"'{source.name}' is given twice", where="--input", cure="Give each input once"
            )
        arrays[source.name] = make_array(source, datatypes[source.name])
    return arrays


def make_array(source: Source, datatype: str) -> Array:
    """The array, of the model's datatype where it is made. Raises ConfigurationError."""
    if source.path is not None:
        return _load(source.path, datatype)
    try:
        return _zeros(source, datatype) if source.fill == "zeros" else _random(source, datatype)
    except (MemoryError, ValueError):
        raise ConfigurationError(
            f"{datatype}{list(source.shape)} does not fit into memory",
            where=f"--input {source.name}", cure="Write a smaller shape",
        ) from None


def save_array(folder: Path, name: str, array: Array) -> Path:
    """Write an output as NAME.npy, characters that file names lack as %XX. Returns the path.

    Raises ConfigurationError where it can not be written.
    """
    path = folder / f"{quote(name, safe='')}.npy"
    array = storable(name, array)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        np.save(path, array)
    except OSError as error:
        raise ConfigurationError(
            f"{path} can not be written: {error.strerror}", where="--output-dir",
            cure="Name a folder that this user may write to",
        ) from error
    return path


def storable(name: str, array: Array) -> Array:
    """The array as NumPy's files can hold it. Raises ConfigurationError where they can not."""
    if array.dtype == ml_dtypes.bfloat16:
        return array.astype(np.float32)
    if array.dtype != np.object_:
        return array
    try:
        stored: Array = array.astype(np.bytes_)
    except UnicodeEncodeError:  # text, which NumPy takes for ASCII
        stored = array.astype(np.str_)
    if any(map(_ends_in_nul, array.reshape(-1).tolist())):
        raise ConfigurationError(
            f"'{name}' has strings that end in a zero byte, and NumPy's files drop it",
            where=name, cure="Leave this output out",
        )
    return stored


def _ends_in_nul(text: str | bytes) -> bool:
    return text.endswith("\0") if isinstance(text, str) else text.endswith(b"\0")


def statistics(array: Array) -> dict[str, float]:
    """Min, max and mean; nothing for strings and empty arrays."""
    if array.dtype.kind in "OSU" or not array.size:
        return {}
    numbers = array.astype(float)
    with np.errstate(all="ignore"):  # infinities have a mean too: nan
        return {
            "min": float(numbers.min()), "max": float(numbers.max()), "mean": float(numbers.mean())
        }


def _load(path: Path, datatype: str) -> Array:
    try:
        loaded = np.load(path, allow_pickle=False)
    except OSError as error:
        raise ConfigurationError(
            f"{path} can not be read: {error.strerror or error}", where="--input",
            cure="Name a file that numpy.save wrote",
        ) from error
    except (ValueError, EOFError) as error:
        raise ConfigurationError(
            f"{path} is no .npy file of plain numbers or strings: {error}", where="--input",
            cure="Write it with numpy.save from an array that is not of dtype object",
        ) from error
    if not isinstance(loaded, np.ndarray):
        loaded.close()
        raise ConfigurationError(
            f"{path} holds several arrays", where="--input",
            cure="Write the one array that is meant with numpy.save",
        )
    if datatype == "BF16" and loaded.dtype == np.dtype("V2"):
        return loaded.view(ml_dtypes.bfloat16)  # how numpy.save writes ml_dtypes.bfloat16
    return loaded


def _zeros(source: Source, datatype: str) -> Array:
    if datatype == "BYTES":
        return np.full(source.shape, b"", np.object_)
    return np.zeros(source.shape, DATATYPES[datatype].numpy)


def _random(source: Source, datatype: str) -> Array:
    """The same numbers at each call: 0 to 1, or 0 to 127 for integers and in strings."""
    generator = np.random.default_rng(0)
    numpy = DATATYPES[datatype].numpy
    if datatype.startswith(("FP", "BF")):
        return generator.random(source.shape).astype(numpy)
    if datatype == "BOOL":
        return generator.integers(0, 2, source.shape).astype(numpy)
    numbers = generator.integers(0, 128, source.shape)
    if datatype == "BYTES":
        return numbers.astype(np.bytes_).astype(np.object_)
    return numbers.astype(numpy)
