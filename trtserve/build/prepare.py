"""From the ONNX file as it came to the graph and the profiles that are built."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from math import isfinite
from pathlib import Path
from typing import Any

import msgspec

from trtserve import __version__
from trtserve.build.fix import fix
from trtserve.build.graph import PROTOBUF_LIMIT, Graph, graph_of, import_onnx
from trtserve.build.lint import LintFinding, batched_inputs, lint, parser_findings
from trtserve.build.precision import check_precision, compare, to_fp16
from trtserve.build.progress import Observer
from trtserve.build.shapes import Profile, derive, from_sizes, parse_profile
from trtserve.model.plan_manifest import (
    PlanFinding,
    PlanProfile,
    PlanRequest,
    PrecisionError,
)

_CONVERTERS = ("onnx", "onnxruntime", "onnxruntime-gpu")
"""Packages that change a graph."""


class Preparation(msgspec.Struct, frozen=True):
    """What came of a request before anything is built. `notes` are what people should read."""

    profiles: tuple[PlanProfile, ...] = ()
    findings: tuple[PlanFinding, ...] = ()
    fixes: tuple[str, ...] = ()
    precision_errors: tuple[PrecisionError, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether nothing stands in the way of a build."""
        return all(finding.severity != "error" for finding in self.findings)


@dataclass(frozen=True, slots=True)
class Prepared:
    """A preparation, and the file with the graph that is built."""

    preparation: Preparation
    graph: Path


def prepare(
    original: Graph, request: PlanRequest, module: Any, folder: Path, observer: Observer
) -> Prepared:
    """Mend, convert and check a graph as asked. A changed graph is written into the folder.

    `module` is asked what its parser takes, unless it is None. Raises OperatorError.
    """
    convert = bool(request.precision) and check_precision(original, request.precision)
    graph, mended = original, _Mended()
    if request.fix:
        graph, mended = _fixed(graph, (), _Mended(), observer)
    profiles, notes = choose_profiles(graph, request)
    if request.fix:  # some faults are only seen with profiles
        graph, mended = _fixed(graph, profiles, mended, observer)
    errors: tuple[PrecisionError, ...] = ()
    if convert:
        graph, errors = _converted(graph, profiles, request, observer)
    found = _with_reasons(lint(graph, profiles), mended.left)
    findings = [_finding(one) for one in _as_asked(found, graph, request.batches)]
    if module is not None:
        findings += map(_finding, parser_findings(module, graph))
    findings += filter(None, map(_overflow, errors))
    path = graph.path if graph.in_file else _save(graph, folder)
    return Prepared(
        Preparation(
            tuple(_named(profiles)), tuple(findings), mended.done, errors, tuple(notes)
        ),
        path,
    )


def converter_versions() -> dict[str, str]:
    """The versions of everything that changes graphs."""
    versions = {"trtserve": __version__}
    for name in _CONVERTERS:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            pass
    return versions


def choose_profiles(
    graph: Graph, request: PlanRequest
) -> tuple[tuple[Profile, ...], tuple[str, ...]]:
    """The profiles that were asked for, or those that the graph suggests, with what to say.

    Raises ConfigurationError.
    """
    if request.profiles:
        return tuple(parse_profile(text, graph) for text in request.profiles), ()
    if request.sizes:
        sized = from_sizes(graph, request.sizes, *_given(request.batches))
        return tuple(sized), ()
    found, explanation = derive(graph, *_given(request.batches))
    return tuple(found), tuple(explanation)


def _given(batches: Sequence[int]) -> tuple[Sequence[int], ...]:
    return (batches,) if batches else ()


@dataclass(frozen=True, slots=True)
class _Mended:
    """What was mended, and findings that say why they were not."""

    done: tuple[str, ...] = ()
    left: tuple[LintFinding, ...] = ()


def _fixed(
    graph: Graph, profiles: Sequence[Profile], before: _Mended, observer: Observer
) -> tuple[Graph, _Mended]:
    """The graph with everything mended that can be; what was left before is not tried again."""
    tried = {(one.code, one.where) for one in before.left}
    findings = [
        finding for finding in lint(graph, profiles)
        if finding.fixable and (finding.code, finding.where) not in tried
    ]
    if not findings:
        return graph, before
    observer.note(f"Mending {', '.join(sorted({finding.code for finding in findings}))}")
    result = fix(graph, findings)
    mended = _Mended((*before.done, *result.done), (*before.left, *result.left))
    return (graph_of(result.model, graph.path) if result.done else graph), mended


def _with_reasons(
    findings: Sequence[LintFinding], left: Sequence[LintFinding]
) -> Iterator[LintFinding]:
    """The findings, those that could not be mended with the reason."""
    reasons = {(one.code, one.where): one for one in left}
    for finding in findings:
        yield reasons.get((finding.code, finding.where), finding)


def _as_asked(
    findings: Iterable[LintFinding], graph: Graph, batches: Sequence[int]
) -> Iterator[LintFinding]:
    """The findings; a fixed batch is an error where other batches are asked for."""
    rows = {tensor.dims[0] for tensor in batched_inputs(graph)}
    largest = max(batches, default=0)
    refused = all(isinstance(row, int) and row < largest for row in rows)
    for finding in findings:
        if refused and finding.code == "fixed-batch":
            problem = f"--batch asks for up to {largest}, but {finding.problem}"
            finding = replace(finding, severity="error", problem=problem)
        yield finding


def _converted(
    graph: Graph, profiles: Sequence[Profile], request: PlanRequest, observer: Observer
) -> tuple[Graph, tuple[PrecisionError, ...]]:
    """The graph in FP16, and how far its outputs are from the original's."""
    observer.note("Converting to FP16, and comparing with the model as it was")
    model = to_fp16(graph.model, keep_io=True)
    samples = Path(request.samples) if request.samples else None
    errors = compare(graph.model, model, samples, profiles)
    return graph_of(model, graph.path), tuple(
        PrecisionError(
            one.output, _finite(one.max_abs), _finite(one.relative_l2), one.argmax_agreement,
            one.samples,
        )
        for one in errors
    )


def _finite(number: float) -> float | None:
    return number if isfinite(number) else None


def _overflow(error: PrecisionError) -> PlanFinding | None:
    if error.max_abs is not None:
        return None
    return PlanFinding(
        "fp16-overflow", "warning",
        f"output '{error.output}' overflows in FP16 with the samples ({error.samples})",
        "Compare on real inputs with --samples; if it stays, convert with modelopt.onnx.autocast, "
        "which leaves what overflows in FP32, and build that file",
        error.output,
    )


def _named(profiles: Sequence[Profile]) -> list[PlanProfile]:
    """The profiles, those without a name under their number in the plan."""
    return [
        PlanProfile(profile.name or f"profile-{index}", dict(profile.shapes))
        for index, profile in enumerate(profiles)
    ]


def _finding(finding: LintFinding) -> PlanFinding:
    return PlanFinding(
        finding.code, finding.severity, finding.problem, finding.cure, finding.where
    )


def _save(graph: Graph, folder: Path) -> Path:
    """The graph as a file, with its weights beside it where one file can not have them."""
    onnx = import_onnx()
    path = folder / graph.path.name
    onnx.save(graph.model, str(path), save_as_external_data=graph.bytes > PROTOBUF_LIMIT)
    return path
