"""What `trtserve build` prints."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from trtserve.build.make import Made, MadePlan
from trtserve.build.prepare import Preparation
from trtserve.cli.output import print_json, print_line, print_table, shown_path
from trtserve.model.plan_manifest import PlanProfile


def show_lint(found: Preparation, *, json: bool) -> None:
    """What is known about a model that was not built."""
    if json:
        print_json({"ok": found.ok, **msgspec.structs.asdict(found)})
        return
    _show_preparation(found)
    print_table(("profile", "takes", "tuned for"), _profile_rows(found.profiles))
    if found.ok and not found.findings:
        print_line()
        print_line("Nothing is wrong.")


def show(made: Made, repository: Path, *, json: bool) -> None:
    """The plans, and what to do next."""
    if json:
        print_json(made)
        return
    _show_preparation(made.preparation)
    if not made.plans:
        print_line("Not built: the errors above have to be mended first.")
        return
    print_line(f"Plans in {shown_path(Path(made.folder))}")
    print_table(
        ("plan", "profile: what it takes", "tuned for", "MB", "built in", ""),
        [row for plan in made.plans for row in _plan_rows(plan)],
    )
    if made.note:
        print_line(made.note)
    print_line()
    print_line(f"Next: trtserve check {shown_path(repository)}")
    print_line(f"      trtserve serve {shown_path(repository)}")


def _show_preparation(found: Preparation) -> None:
    for text in (*found.notes, *found.fixes):
        print_line(text)
    if found.precision_errors:
        samples = found.precision_errors[0].samples
        print_line(f"Compared with the model as it was, on {samples}")
        print_table(
            ("output in FP16", "largest error", "relative error", "same largest number"),
            [
                (e.output, *map(_error_text, (e.max_abs, e.relative)),
                 "" if e.argmax_agreement is None else f"{e.argmax_agreement:.2%}")
                for e in found.precision_errors
            ],
        )
        print_line()
    if found.findings:
        print_table(
            ("severity", "what", "where", "problem", "cure"),
            [(f.severity, f.code, f.where, f.problem, f.cure) for f in found.findings],
        )
        print_line()


def _error_text(error: float | None) -> str:
    return "overflows" if error is None else f"{error:.2g}"


def _profile_rows(profiles: Sequence[PlanProfile]) -> Iterator[tuple[str, str, str]]:
    for profile in profiles:
        yield (
            profile.name,
            "\n".join(f"{name}{one}" for name, one in profile.shapes.items()),
            "\n".join(str(list(one.opt or one.max)) for one in profile.shapes.values()),
        )


def _plan_rows(plan: MadePlan) -> Iterator[tuple[str, ...]]:
    """One line for each profile; the first one carries what is the plan's."""
    how = "there already" if plan.unchanged else "from the cache" if plan.cached else "built"
    first = (f"{plan.bytes / 1e6:.1f}", f"{plan.seconds:.2f} s", how)
    name = plan.file
    for profile, takes, tuned in _profile_rows(plan.profiles):
        yield (name, f"{profile}: {takes}", tuned, *first)
        name, first = "", ("", "", "")
    if name:  # all its shapes are fixed
        yield (name, "", "", *first)
