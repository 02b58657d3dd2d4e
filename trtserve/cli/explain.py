"""`trtserve explain`: what an optimiser made of a model, and what differs between two."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trtserve.cli.connection import Json
from trtserve.cli.output import console, print_json, print_line, print_table
from trtserve.errors import ConfigurationError

if TYPE_CHECKING:
    from trtserve.build.explain.compare import Comparison
    from trtserve.build.explain.explanation import Explanation
    from trtserve.build.explain.report import Table


def explain(
    subject: Annotated[str, typer.Argument(
        metavar="MODEL_OR_FILE", show_default=False,
        help="A model of the repository, MODEL/VERSION, an .onnx file, a plan, or what trtexec "
        "--exportLayerInfo wrote.",
    )],
    repository: Annotated[Path | None, typer.Option(
        help="The model repository.", envvar="TRTSERVE_REPOSITORY", show_default=False,
    )] = None,
    version: Annotated[int | None, typer.Option(
        help="The model's version; the highest if not given.", min=1,
    )] = None,
    against: Annotated[str | None, typer.Option(
        help="Another model, MODEL/VERSION or file to compare with.", show_default=False,
    )] = None,
    profile: Annotated[int, typer.Option(
        help="Whose layers to show, of a plan with several profiles.", min=0,
    )] = 0,
    run: Annotated[str, typer.Option(
        help='Run an .onnx file on made-up inputs of these shapes, and show where the time goes: '
        '"x=1x3x224x224".', show_default=False,
    )] = "",
    times: Annotated[Path | None, typer.Option(
        help="A plan's times, as trtexec --exportProfile wrote them.", show_default=False,
    )] = None,
    cpu: Annotated[bool, typer.Option(
        "--cpu", help="ONNX Runtime's graph for the CPU, even where CUDA is there.",
    )] = False,
    html: Annotated[Path | None, typer.Option(
        help="Write a page with the graph before and after, too.", show_default=False,
    )] = None,
    json: Json = False,
) -> None:
    """Show what was fused, what runs in its place, and why two engines differ.

    Plans are explained from their manifests, anywhere; .onnx files by the ONNX Runtime that is
    installed here.
    """
    # Here and not above: `trtserve --help` needs neither onnx nor a runtime.
    from trtserve.build.explain.compare import compare
    from trtserve.build.explain.page import page
    from trtserve.build.explain.subject import explain_file, find_files, pairs

    if html is not None and not html.parent.is_dir():
        raise ConfigurationError(
            f"there is no folder {html.parent}", where="--html", cure="Make it first"
        )
    files = find_files(subject, repository, version)
    others = find_files(against, repository, None) if against is not None else ()
    matched = pairs(files, others) if others else []
    if others:
        files = tuple(this for this, _ in matched)
    if times is not None and len(files) > 1:
        raise ConfigurationError(
            f"the times are of one plan, and there are {len(files)}", where="--times",
            cure="Name the plan's file",
        )
    with console(stderr=True).status("Reading") as status:
        explanations = []
        for file in files:
            status.update(f"Reading {file}")
            explanations.append(explain_file(file, profile, times, run, cuda=not cpu))
        comparisons = [
            compare(explanation, explain_file(other, profile, cuda=not cpu))
            for explanation, (_, other) in zip(explanations, matched, strict=False)
        ]
    if html is not None:
        _write(html, page(explanations, comparisons))
    if json:
        print_json({"files": explanations, "comparisons": comparisons})
        return
    for explanation in explanations:
        _print(explanation)
    for comparison in comparisons:
        _print_comparison(comparison)
    if html is not None:
        print_line(f"wrote {html}")


def _write(path: Path, document: str) -> None:
    try:
        path.write_text(document, encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(
            f"can not be written: {error.strerror}", where=str(path), cure="Name another file"
        ) from error


def _print(explanation: "Explanation") -> None:
    from trtserve.build.explain.report import summary, tables

    print_line(explanation.file)
    print_line()
    for table in tables(explanation):
        _print_table(table)
    # Last, where it is seen: the tables above may be long.
    for line in summary(explanation):
        print_line(line)
    print_line()


def _print_comparison(comparison: "Comparison") -> None:
    from trtserve.build.explain.report import comparison_line, comparison_tables

    for table in comparison_tables(comparison):
        _print_table(table)
    print_line(comparison_line(comparison))


def _print_table(table: "Table") -> None:
    print_table(table.columns, table.rows, title=table.title)
    print_line()
