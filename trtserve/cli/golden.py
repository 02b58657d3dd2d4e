"""`trtserve golden record`: writes down what a running daemon answers, as a golden case."""

from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trtserve.cli.connection import DEFAULT_ADDRESS, Address, Json, connect
from trtserve.cli.output import print_json, print_line, print_table, shown_path
from trtserve.errors import ConfigurationError, RepositoryError

if TYPE_CHECKING:
    from trtserve.cli.tensor_file import Array
    from trtserve.client import Result

SUFFIX = ".npz"


def record(
    model: Annotated[str, typer.Argument(help="The model's name.", show_default=False)],
    inputs: Annotated[list[str], typer.Option(
        "--input", help="NAME=@FILE.npy, or NAME=zeros:1x3x224x224 or NAME=random:1x3x224x224 "
        "in the model's own datatype. Once for each input.", show_default=False,
    )],
    output: Annotated[Path, typer.Option(
        help="The file to write, which must end in .npz; with --repository its name only.",
        show_default=False,
    )],
    expect: Annotated[list[str] | None, typer.Option(
        help="An output that the case expects, as often as needed; all if never given.",
    )] = None,
    repository: Annotated[Path | None, typer.Option(
        help="Put the file into MODEL/VERSION/golden of this repository, for the version that "
        "answers.",
    )] = None,
    version: Annotated[str, typer.Option(
        help="The model's version, or a label such as canary; the server's choice if not "
        "given.")] = "",
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
    deadline: Annotated[float | None, typer.Option(help="Seconds to wait.", min=0)] = None,
    address: Address = DEFAULT_ADDRESS,
    json: Json = False,
) -> None:
    """Send one request, and write its inputs and the outputs that came as a golden case.

    Whoever serves the version from then on must give the same outputs. So record it where you
    trust the answers: each load compares, and `trtserve check` does.
    """
    # Here and not above: see connect().
    from trtserve.cli.tensor_file import make_inputs, parse_source

    _check_name(output, plain=repository is not None)
    if repository is None:
        _refuse_existing(output, force=force)
    sources = [parse_source(text) for text in inputs]
    with connect(address) as client:
        info = client.metadata(model, version, deadline=deadline)
        arrays = make_inputs(sources, info)
        result = client.infer(
            model, arrays, outputs=expect or (), version=version, deadline=deadline
        )
    path = output
    if repository is not None:
        path = _home(repository, model, result.version) / output
        _refuse_existing(path, force=force)
    _write(path, _case(arrays, result))
    if json:
        print_json({
            "file": str(path), "model": result.model, "version": result.version,
            "inputs": _described(arrays), "outputs": _described(result),
        })
    else:
        _print(path, arrays, result)


def _check_name(path: Path, *, plain: bool) -> None:
    """Raise ConfigurationError for a file that would be no golden case."""
    if path.suffix != SUFFIX or path.name.startswith("."):
        raise ConfigurationError(
            f"'{path.name}' is no name of a golden case", where="--output",
            cure=f"Name a file that ends in {SUFFIX} and does not begin with a dot",
        )
    if plain and path.name != str(path):
        raise ConfigurationError(
            f"'{path}' has a folder, and --repository says where the file goes", where="--output",
            cure=f"Write --output {path.name}, or leave --repository out",
        )


def _refuse_existing(path: Path, *, force: bool) -> None:
    if path.exists() and not force:
        raise ConfigurationError(
            "it is there already", where=str(path),
            cure="Replace it with --force, or give --output another name",
        )


def _home(repository: Path, model: str, version: str) -> Path:
    """The folder of golden cases of the version that answered. Raises RepositoryError."""
    from trtserve.model.golden import FOLDER
    from trtserve.model.layout import VERSION_NAME

    folder = repository / model / version
    # The number comes from the other side, and becomes a path.
    if VERSION_NAME.fullmatch(version) is None or not folder.is_dir():
        raise RepositoryError(
            f"version {version} of {model} answered, and this repository does not have it",
            where=str(folder),
            cure="Name the repository that the daemon serves, or leave --repository out",
        )
    return folder / FOLDER


def _case(inputs: Mapping[str, "Array"], outputs: Mapping[str, "Array"]) -> bytes:
    """The content of the file. Raises ConfigurationError for what NumPy's files can not hold."""
    import numpy as np

    from trtserve.cli.tensor_file import storable
    from trtserve.model.golden import INPUTS, OUTPUTS

    arrays: dict[str, Any] = {
        prefix + name: storable(name, array)
        for prefix, tensors in ((INPUTS, inputs), (OUTPUTS, outputs))
        for name, array in tensors.items()
    }
    content = BytesIO()
    np.savez(content, **arrays)
    return content.getvalue()


def _write(path: Path, content: bytes) -> None:
    """Write the file, which appears only when all of it is there. Raises ConfigurationError."""
    from trtserve.build.plan_files import write_whole

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, content)
    except OSError as error:
        raise ConfigurationError(
            f"it can not be written: {error.strerror}", where=str(path),
            cure="Name a folder that this user may write to, with room in it",
        ) from error


def _described(tensors: Mapping[str, "Array"]) -> list[dict[str, Any]]:
    from trtserve.cli.tensor_file import statistics
    from trtserve.model.tensor import datatype_of

    return [
        {"name": name, "datatype": datatype_of(array), "shape": array.shape, **statistics(array)}
        for name, array in tensors.items()
    ]


def _print(path: Path, inputs: Mapping[str, "Array"], result: "Result") -> None:
    rows = [
        (kind, tensor["name"], tensor["datatype"], list(tensor["shape"]),
         *(f"{tensor[each]:.6g}" if each in tensor else "-" for each in ("min", "max", "mean")))
        for kind, tensors in (("input", inputs), ("expected", result))
        for tensor in _described(tensors)
    ]
    print_table(
        ("", "tensor", "datatype", "shape", "min", "max", "mean"), rows,
        title=f"{result.model} version {result.version}",
    )
    print_line(f"wrote {shown_path(path)}")
