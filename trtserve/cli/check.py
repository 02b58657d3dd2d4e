"""`trtserve check`: everything short of serving, and what is wrong."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trtserve.cli.connection import Json
from trtserve.cli.output import console, print_json, print_line, print_table

if TYPE_CHECKING:
    from trtserve.cli.checking import Checked


def check(
    repository: Annotated[Path, typer.Argument(
        help="The model repository: MODEL/VERSION/FILE.", envvar="TRTSERVE_REPOSITORY",
        show_default=False,
    )],
    json: Json = False,
) -> None:
    """Scan, parse, load and run each model once; say what is wrong, where, and how to mend it.

    Exit code 1 if a model would not be served.
    """
    # Here and not above: `trtserve --help` needs neither the engines nor NumPy.
    from trtserve.cli.checking import Checker
    from trtserve.device.host import HostDevice
    from trtserve.engine.onnxruntime import OnnxRuntime

    with console(stderr=True).status("Reading the repository") as status:
        checked = Checker((OnnxRuntime(),), HostDevice(), status.update).check(repository)
    if json:
        print_json(checked)
    else:
        _print(checked)
    if not checked.ok:
        raise typer.Exit(1)


def _print(checked: "Checked") -> None:
    if checked.versions:
        print_table(
            ("model", "version", "", "variant", "batch", "takes", "gives", "ran on zeros of"),
            _rows(checked),
        )
        print_line()
    if checked.findings:
        print_table(
            ("severity", "where", "problem", "cure"),
            [(f.severity, f.where, f.problem, f.cure) for f in checked.findings],
        )
    else:
        print_line("Nothing is wrong.")


def _rows(checked: "Checked") -> Iterator[tuple[str, ...]]:
    """One line for each variant; the first one carries what is the version's."""
    for version in checked.versions:
        heading = (version.model, str(version.version), "ok" if version.ok else "error")
        if not version.variants:
            yield (*heading, "", "", "", "", "")
        for variant in version.variants:
            yield (
                *heading, variant.name, str(variant.max_batch or "none"),
                "\n".join(variant.takes), "\n".join(variant.gives),
                "\n".join(variant.ran) or "nothing: its shapes are open",
            )
            heading = ("", "", "")
