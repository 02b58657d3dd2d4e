"""`trtserve infer`: one request to a running daemon, from files or made-up arrays."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trtserve.cli.connection import DEFAULT_ADDRESS, Address, Json, connect
from trtserve.cli.output import print_json, print_line, print_table

if TYPE_CHECKING:
    from trtserve.cli.tensor_file import Array
    from trtserve.client import Result


def infer(
    model: Annotated[str, typer.Argument(help="The model's name.", show_default=False)],
    inputs: Annotated[list[str], typer.Option(
        "--input", help="NAME=@FILE.npy, or NAME=zeros:1x3x224x224 or NAME=random:1x3x224x224 "
        "in the model's own datatype. Once for each input.", show_default=False,
    )],
    outputs: Annotated[list[str] | None, typer.Option(
        "--output", help="An output that is wanted, as often as needed; all if never given.",
    )] = None,
    output_dir: Annotated[Path | None, typer.Option(
        help="Write each output here as NAME.npy.")] = None,
    version: Annotated[str, typer.Option(
        help="The model's version, or a label such as canary; the server's choice if not "
        "given.")] = "",
    deadline: Annotated[float | None, typer.Option(help="Seconds to wait.", min=0)] = None,
    receipt: Annotated[bool, typer.Option(
        "--receipt", help="Ask how the request went: queue and stage times, batch, lane.",
    )] = False,
    address: Address = DEFAULT_ADDRESS,
    json: Json = False,
) -> None:
    """Send one request and describe the outputs."""
    # Here and not above: see connect().
    from trtserve.cli.tensor_file import make_inputs, parse_source, save_array

    sources = [parse_source(text) for text in inputs]
    with connect(address) as client:
        info = client.metadata(model, version, deadline=deadline)
        result = client.infer(
            model, make_inputs(sources, info), outputs=outputs or (), version=version,
            receipt=receipt, deadline=deadline,
        )
    files = {}
    if output_dir is not None:
        for name, array in result.items():
            files[name] = str(save_array(output_dir, name, array))
    if json:
        print_json(_description(result, files))
    else:
        _print(result, files)


def _description(result: "Result", files: dict[str, str]) -> dict[str, Any]:
    from trtserve.cli.tensor_file import statistics

    outputs = []
    for name, array in result.items():
        outputs.append({
            "name": name, "datatype": _datatype(array), "shape": array.shape,
            **statistics(array),
        })
        if name in files:
            outputs[-1]["file"] = files[name]
    return {
        "model": result.model, "version": result.version, "outputs": outputs,
        "receipt": result.receipt,
    }


def _print(result: "Result", files: dict[str, str]) -> None:
    from trtserve.cli.tensor_file import statistics

    rows = []
    for name, array in result.items():
        numbers = [f"{value:.6g}" for value in statistics(array).values()]
        rows.append((name, _datatype(array), list(array.shape), *(numbers or ["-"] * 3)))
    print_table(
        ("output", "datatype", "shape", "min", "max", "mean"), rows,
        title=f"{result.model} version {result.version}",
    )
    if result.receipt is not None:
        print_line()
        print_table(("receipt", ""), result.receipt.items())
    for path in files.values():
        print_line(f"wrote {path}")


def _datatype(array: "Array") -> str:
    from trtserve.model.tensor import datatype_of

    return datatype_of(array)
