"""Explains a plan from its manifest, or from what an inspector wrote of it."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from trtserve.build.engine_cache import file_sha256
from trtserve.build.explain.explanation import (
    Explanation,
    Node,
    Note,
    Profile,
    count,
    gone,
    size_text,
    timed,
)
from trtserve.build.explain.inspector import LayerReport, is_report, read_report, read_times
from trtserve.errors import ConfigurationError, ModelLoadError
from trtserve.model.plan_fit import TITLES, rebuild_command
from trtserve.model.plan_manifest import PlanManifest, manifest_path, read_manifest

_CONSTANT = "Constant"

_OWN_CHOICE = "the builder's own"

_TIMES_CURE = (
    "Measure them where the plan runs, and give the file: trtexec --loadEngine=PLAN "
    "--dumpProfile --separateProfileRun --exportProfile=FILE, then trtserve explain --times FILE"
)


def explain_plan(path: Path, profile: int = 0, times: Path | None = None) -> Explanation:
    """Explain a plan. Raises ModelLoadError or ConfigurationError."""
    try:
        size = path.stat().st_size
        manifest = read_manifest(path)
        same = manifest is None or manifest.plan_sha256 == file_sha256(path)
    except OSError as error:
        raise ModelLoadError(
            f"can not be read: {error.strerror}", where=str(path), cure="Let this user read it"
        ) from error
    if manifest is None:
        note = Note(
            f"there is no manifest beside it ({manifest_path(path).name}), so nothing tells what "
            "it was built from",
            "Build it with `trtserve build`, or give what trtexec --exportLayerInfo=FILE "
            "--profilingVerbosity=detailed wrote: trtserve explain FILE",
        )
        return Explanation(
            name=path.name, file=str(path), kind="plan", facts={"plan": size_text(size)},
            totals=count((), None), notes=(note,),
        )
    return explain_manifest(manifest, path, profile, times, same=same, size=size)


def explain_manifest(
    manifest: PlanManifest, path: Path, profile: int = 0, times: Path | None = None,
    *, same: bool = True, size: int | None = None,
) -> Explanation:
    """Explain a plan by its manifest. `same`: the plan is the one that this describes."""
    profiles = _profiles(manifest)
    _check_profile(profile, len(profiles), path)
    nodes, constants = _network(manifest)
    facts = _facts(manifest)
    facts["plan"] = size_text(manifest.plan_bytes if size is None else size)
    notes: list[Note] = []
    if not same:
        notes.append(Note(
            "the plan is not the one that its manifest describes: all this is of another one",
            f"Build it again: {rebuild_command(manifest, str(path))}",
        ))
    notes += [
        Note(f"{finding.severity}: {finding.problem}", finding.cure)
        for finding in manifest.findings
    ]
    if manifest.engine is None:
        notes.append(_no_report(manifest, path))
        if times is not None:
            _times(times)  # what is wrong with it is said first
            notes.append(Note(
                f"the times in {times} are not shown: they are of layers, and those are not known",
                "Name what trtexec --exportLayerInfo wrote in the plan's place",
            ))
        return Explanation(
            name=path.name, file=str(path), kind="plan", facts=facts, profiles=profiles,
            profile=profile, before=nodes, totals=count(nodes, None, constants),
            notes=tuple(notes),
        )
    facts["auxiliary streams"] = str(manifest.engine.aux_streams)
    report = read_report(manifest.engine.layers, profile)
    return _explained(
        report, times, name=path.name, file=str(path), kind="plan", facts=facts,
        profiles=profiles, profile=profile, before=nodes, constants=constants, notes=notes,
    )


def explain_layers(path: Path, profile: int = 0, times: Path | None = None) -> Explanation:
    """Explain what an inspector wrote into a file. Raises as the others do."""
    report = _read_json(path)
    if not is_report(report):
        raise ModelLoadError(
            "this is not what TensorRT's engine inspector writes: it has no list of Layers",
            where=str(path),
            cure="Name an .onnx file, a plan, or a file of trtexec --exportLayerInfo",
        )
    layers = read_report(report, profile)
    _check_profile(profile, layers.profiles, path)
    note = Note(
        "the network before building is not known, nor what it was built with",
        "Build the plan with `trtserve build`, which writes both down",
    )
    return _explained(
        layers, times, name=path.name, file=str(path), kind="layers", facts={},
        profiles=_reported_profiles(report), profile=profile, before=(), constants=0,
        notes=[note],
    )


def _explained(
    report: LayerReport, times: Path | None, *, before: tuple[Node, ...], constants: int,
    notes: list[Note], **parts: Any,
) -> Explanation:
    layers = report.layers
    if times is not None:
        layers = timed(layers, _times(times))
        if layers and not any(layer.time_share is not None for layer in layers):
            notes.append(Note(
                f"{times} has times of other layers than these",
                "Profile this very plan: names of layers change with every build",
            ))
    elif layers:
        notes.append(Note("nobody measured how long the layers take", _TIMES_CURE))
    claimed = {name for layer in layers for name in layer.fused}
    after = layers or None
    return Explanation(
        before=before, after=after, totals=count(before, after, constants),
        gone=gone(before, claimed) if after else (), notes=(*report.notes, *notes), **parts,
    )


def _profiles(manifest: PlanManifest) -> tuple[Profile, ...]:
    scratch = manifest.engine.scratch_bytes if manifest.engine is not None else ()
    return tuple(
        Profile(profile.name, profile.shapes, scratch[at] if at < len(scratch) else None)
        for at, profile in enumerate(manifest.profiles)
    )


def _reported_profiles(report: Mapping[str, Any]) -> tuple[Profile, ...]:
    """TensorRT 11 tells the profiles of each input; 10 does not."""
    shapes: list[dict[str, Any]] = []
    for tensor in report.get("I/O Tensors") or ():
        if not isinstance(tensor, dict) or str(tensor.get("IOMode", "")).lower() != "input":
            continue
        for at, entry in enumerate(tensor.get("ProfileInfo") or ()):
            if at == len(shapes):
                shapes.append({})
            shapes[at][str(tensor.get("Name"))] = {
                "min": entry.get("MinShape"), "max": entry.get("MaxShape"),
                "opt": entry.get("OptShape"),
            }
    try:
        return tuple(
            msgspec.convert({"name": str(at), "shapes": named}, Profile)
            for at, named in enumerate(shapes)
        )
    except msgspec.ValidationError:
        return ()


def _check_profile(profile: int, known: int, path: Path) -> None:
    if not 0 <= profile < max(1, known):
        raise ConfigurationError(
            f"there is no profile {profile}", where=str(path),
            cure=f"Give --profile 0 to {max(1, known) - 1}" if known > 1
            else "It has one profile: leave --profile away",
        )


def _network(manifest: PlanManifest) -> tuple[tuple[Node, ...], int]:
    """The nodes before building, and how many constants there were beside them."""
    nodes, seen = [], set()
    layers = manifest.network.layers
    for at, layer in enumerate(layers):
        kind = "".join(word.capitalize() for word in layer.type.split("_"))
        if kind == _CONSTANT:
            continue
        name = layer.name if layer.name and layer.name not in seen else f"{layer.name}#{at}"
        seen.add(name)
        given = manifest.network.tensors.get(layer.outputs[0]) if layer.outputs else None
        precision, shape = (given.datatype, str(list(given.shape))) if given else ("", "")
        nodes.append(Node(name, kind, layer.inputs, layer.outputs, precision, shape))
    return tuple(nodes), len(layers) - len(nodes)


def _facts(manifest: PlanManifest) -> dict[str, str]:
    return dict(_fact_pairs(manifest))


def _fact_pairs(manifest: PlanManifest) -> Iterator[tuple[str, str]]:
    """What decides what the builder chooses, and what the plan runs on."""
    options, gpu = manifest.request.options, manifest.gpu
    yield "built with", f"{TITLES.get(manifest.module, manifest.module)} {manifest.module_version}"
    if manifest.module == "tensorrt_rtx":
        names = ", ".join(options.compute_capabilities)
        yield "built for", names or "all GPUs that TensorRT-RTX builds for if not told"
    elif gpu is not None:
        yield "GPU", f"{gpu.name} (compute capability {gpu.compute_capability})"
    if gpu is not None and gpu.driver:
        yield "driver", f"for CUDA {gpu.driver}"
    if gpu is not None and gpu.cuda:
        yield "CUDA", gpu.cuda
    yield "ONNX model", f"{manifest.onnx_file}, SHA-256 {manifest.onnx_sha256[:12]}"
    if manifest.fixes:
        yield "mended", "; ".join(manifest.fixes)
    yield "precision", manifest.request.precision or "as exported"
    yield "optimization level", _choice(options.level)
    yield "workspace", "all memory" if options.workspace_mib is None else (
        f"{options.workspace_mib} MiB"
    )
    yield "loads in", (
        "later versions too" if options.version_compatible else "this very version"
    )
    if options.hardware_compatibility != "none":
        yield "hardware compatibility", options.hardware_compatibility
    yield "timing cache", manifest.timing_cache[:12] or "none"
    yield "built", f"{manifest.created}, in {manifest.build_seconds:.1f} s"


def _choice(value: int | None) -> str:
    return f"{_OWN_CHOICE} choice" if value is None else str(value)


def _no_report(manifest: PlanManifest, path: Path) -> Note:
    if manifest.module == "tensorrt_rtx":
        return Note(
            "what runs is not known: TensorRT-RTX chooses its kernels on the machine that runs "
            "the plan, and the GPU was not there, or can not run it, when it was built",
            f"Build it on such a machine: {rebuild_command(manifest, str(path))}",
        )
    return Note(
        "what the builder chose is not known: no GPU could load the plan when it was built",
        "Build it on the GPU that shall serve it, which keeps the inspector's report: "
        + rebuild_command(manifest, str(path)),
    )


def _times(path: Path) -> dict[str, float]:
    try:
        return read_times(_read_json(path))
    except ValueError as error:
        raise ConfigurationError(
            f"this is not what trtexec --exportProfile writes: {error}", where=str(path),
            cure=_TIMES_CURE,
        ) from error


def _read_json(path: Path) -> Any:
    try:
        return msgspec.json.decode(path.read_bytes())
    except OSError as error:
        raise ConfigurationError(
            f"can not be read: {error.strerror}", where=str(path), cure="Let this user read it"
        ) from error
    except msgspec.DecodeError as error:
        raise ConfigurationError(
            f"this is not JSON: {error}", where=str(path), cure="Write it again"
        ) from error
