"""`trtserve check`: everything short of serving, and what is wrong."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trtserve.cli.connection import Json
from trtserve.cli.names import Names
from trtserve.cli.output import console, print_json, print_line, print_table
from trtserve.config import Settings

if TYPE_CHECKING:
    from trtserve.cli.checking import Checked, CheckedPlace, CheckedVariant


def check(
    repository: Annotated[Path, typer.Argument(
        help="The model repository: MODEL/VERSION/FILE.", envvar="TRTSERVE_REPOSITORY",
        show_default=False,
    )],
    devices: Annotated[str, typer.Option(
        help="The devices that the daemon would have, as for serve.", envvar="TRTSERVE_DEVICES",
    )] = "auto",
    json: Json = False,
) -> None:
    """Scan, parse, load and run each model once; say what is wrong, where, and how to mend it.

    Says on which devices each model would live; it is loaded and run on the CPU here, and its
    golden cases are compared. TensorRT plans are not loaded: their manifests say whether they
    fit. Without a GPU here, and without --devices, they may be meant for another machine: that
    is a warning. Exit code 1 if a model would not be served.
    """
    # Here and not above: `trtserve --help` needs neither the engines nor NumPy.
    from trtserve.cli.checking import Checker
    from trtserve.cli.checking_plans import PlanChecker
    from trtserve.cli.devices import decide
    from trtserve.device.host import HostDevice
    from trtserve.engine.onnxruntime import OnnxRuntime

    with console(stderr=True).status("Looking for devices") as status:
        _, choice = decide(Settings(repository=str(repository), devices=devices).check())
        status.update("Reading the repository")
        checker = Checker(
            (OnnxRuntime(),), HostDevice(), choice.devices, status.update,
            PlanChecker(choice.cuda),
            settled=devices not in ("auto", "all") or bool(choice.cuda),
        )
        checked = checker.check(repository)
    if json:
        print_json(checked)
    else:
        print_line(f"devices {choice.line}")
        print_line()
        _print(checked)
    if not checked.ok:
        raise typer.Exit(1)


def _print(checked: "Checked") -> None:
    if checked.versions:
        golden = any(version.golden for version in checked.versions)
        print_table(
            ("model", "version", "names", "", "lives on", "variant", "batch", "takes", "gives",
             "ran on zeros of", *(["golden cases"] if golden else [])),
            _rows(checked, golden=golden),
        )
        print_line()
    if checked.findings:
        print_table(
            ("severity", "where", "problem", "cure"),
            [(f.severity, f.where, f.problem, f.cure) for f in checked.findings],
        )
    else:
        print_line("Nothing is wrong.")


def _rows(checked: "Checked", *, golden: bool) -> Iterator[tuple[str, ...]]:
    """One line for each variant; the first one carries what is the version's."""
    for version in checked.versions:
        cases: tuple[str, ...] = ()
        if golden:
            cases = ("\n".join(f"{case.name} {case.state}" for case in version.golden),)
        heading = (
            version.model, str(version.version), Names(version.labels, version.weight).text,
            "ok" if version.ok else "error",
            "\n".join(map(_place, version.places)),
        )
        if not version.variants:
            yield (*heading, "", "", "", "", "", *cases)
        for variant in version.variants:
            yield (
                *heading, variant.name, str(variant.max_batch or "none"),
                "\n".join(variant.takes), "\n".join(variant.gives),
                "\n".join(variant.ran) or _not_run(variant), *cases,
            )
            heading = ("", "", "", "", "")
            cases = ("",) * len(cases)


def _not_run(variant: "CheckedVariant") -> str:
    if not variant.loaded:
        return "nothing: a plan runs on its GPU only"
    return "nothing: its shapes are open"


def _place(place: "CheckedPlace") -> str:
    if place.lanes is None:
        return place.device
    return f"{place.device} ({place.lanes} lane{'s' if place.lanes > 1 else ''})"

