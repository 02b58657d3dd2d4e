"""`trtserve build`: from an ONNX file to plans in the repository."""

import os
import re
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trtserve.cli.connection import Json
from trtserve.cli.output import print_error
from trtserve.errors import ConfigurationError, OperatorError

if TYPE_CHECKING:
    from trtserve.model.plan_manifest import PlanGpu, PlanRequest

CANCELLED = 130
"""The exit code after Ctrl-C, as shells have it."""


class Precision(StrEnum):
    """What a plan computes with."""

    FP32 = "fp32"
    FP16 = "fp16"
    BF16 = "bf16"
    INT8 = "int8"
    FP8 = "fp8"


class Hardware(StrEnum):
    """Which other GPUs run a plan."""

    NONE = "none"
    AMPERE_PLUS = "ampere_plus"
    SAME_COMPUTE_CAPABILITY = "same_compute_capability"


class Module(StrEnum):
    """What builds plans."""

    TENSORRT = "tensorrt"
    TENSORRT_RTX = "tensorrt_rtx"


def build(
    model: Annotated[Path, typer.Argument(
        help="The ONNX file.", exists=True, dir_okay=False, resolve_path=True,
    )],
    repository: Annotated[Path | None, typer.Option(
        help="The model repository that the plans go to.", envvar="TRTSERVE_REPOSITORY",
        show_default=False,
    )] = None,
    name: Annotated[str, typer.Option(
        help="The model's name there. Default: the file's.", show_default=False,
    )] = "",
    version: Annotated[int | None, typer.Option(
        help="Its version. Default: the newest if it is what would be built, else the next free "
             "number.", min=1, show_default=False,
    )] = None,
    profile: Annotated[list[str] | None, typer.Option(
        help="Smallest, usual and largest shape of each input: "
             "'x=1x64,8x64,32x64;y=...'. Once for each profile.",
        show_default=False,
    )] = None,
    sizes: Annotated[str, typer.Option(
        help="Sizes of the open dimensions behind the batch, such as 160,224,288x320: a profile "
             "for each.", show_default=False,
    )] = "",
    batch: Annotated[str, typer.Option(
        help="Smallest, usual and largest batch. Default: 1,8,32.", show_default=False,
    )] = "",
    split: Annotated[bool, typer.Option(
        "--split", help="One plan for each profile, instead of one with all of them.",
    )] = False,
    precision: Annotated[Precision | None, typer.Option(
        help="fp16 converts the graph; bf16, int8 and fp8 want one that was converted before. "
             "Default: as the file has it.", show_default=False,
    )] = None,
    samples: Annotated[Path | None, typer.Option(
        help="Inputs, in an .npz file, that the converted graph is compared on.",
        exists=True, dir_okay=False, resolve_path=True, show_default=False,
    )] = None,
    fix: Annotated[bool, typer.Option(
        "--fix", help="Mend in the graph what can be mended.",
    )] = False,
    lint_only: Annotated[bool, typer.Option(
        "--lint-only", help="Say what is wrong with the model, and build nothing.",
    )] = False,
    level: Annotated[int | None, typer.Option(
        help="How long the builder searches. Default: its own, 3.", min=0, max=5,
        show_default=False,
    )] = None,
    workspace: Annotated[int | None, typer.Option(
        help="The most MiB of scratch memory for a layer. Default: what the GPU has.", min=1,
        show_default=False,
    )] = None,
    version_compatible: Annotated[bool, typer.Option(
        "--version-compatible", help="Let later versions of TensorRT run the plan.",
    )] = False,
    hardware_compatibility: Annotated[Hardware, typer.Option(
        help="Let other GPUs run the plan; it is slower then.",
    )] = Hardware.NONE,
    module: Annotated[Module | None, typer.Option(
        help="What builds. Default: the first that is installed.", show_default=False,
    )] = None,
    compute_capability: Annotated[str, typer.Option(
        help="The GPUs that TensorRT-RTX builds for, such as SM86,SM120. Default: SM80, SM86, "
             "SM89, SM120 and later.", show_default=False,
    )] = "",
    cache: Annotated[Path | None, typer.Option(
        help="Where built plans and timings are kept. Default: ~/.cache/trtserve.",
        envvar="TRTSERVE_CACHE", show_default=False,
    )] = None,
    force: Annotated[bool, typer.Option(
        "--force", help="Build again what the cache has, and replace what is there.",
    )] = False,
    json: Json = False,
) -> None:
    """Build TensorRT plans from an ONNX file, and put them into a model repository.

    Exit code 1 if nothing was built, 130 after Ctrl-C; the repository is then as it was.
    """
    # Here and not above: `trtserve --help` needs none of it.
    from trtserve.build.engine_cache import EngineCache
    from trtserve.build.make import PlanMaker, Target
    from trtserve.build.make import lint_only as only_lint
    from trtserve.build.module import find_module
    from trtserve.build.progress import BuildCancelled
    from trtserve.cli.build_progress import watching
    from trtserve.cli.build_report import show, show_lint
    from trtserve.model.plan_manifest import PlanOptions, PlanRequest

    request = PlanRequest(
        model=str(model), profiles=tuple(profile or ()), sizes=_words(sizes),
        batches=_numbers(batch), split=split, precision=precision.value if precision else "",
        samples=str(samples or ""), fix=fix,
        options=PlanOptions(
            level=level, workspace_mib=workspace, version_compatible=version_compatible,
            hardware_compatibility=hardware_compatibility.value,
            compute_capabilities=tuple(word.upper() for word in _words(compute_capability)),
        ),
    )
    _check_request(request)
    wanted = module.value if module else ""
    if lint_only:
        with watching() as observer:
            found = only_lint(request, _parser_module(wanted), observer)
        show_lint(found, json=json)
        if not found.ok:
            raise typer.Exit(1)
        return
    target = Target(
        _absolute(repository), _model_name(name or model.stem, given=bool(name)), version, force
    )
    try:
        with watching() as observer:
            gpu, no_gpu = _gpu()
            maker = PlanMaker(
                find_module(wanted), gpu, no_gpu, EngineCache(cache or _default_cache()), observer
            )
            made = maker.make(request, target)
    except BuildCancelled as error:
        print_error(error)
        raise typer.Exit(CANCELLED) from None
    except KeyboardInterrupt:
        print_error(OperatorError("cancelled", cure="Nothing was written"))
        raise typer.Exit(CANCELLED) from None
    show(made, target.repository, json=json)
    if not made.plans:
        raise typer.Exit(1)


def _gpu() -> "tuple[PlanGpu | None, str]":
    """The GPU that the builder uses, which is CUDA's first; or why there is none."""
    from trtserve.device.probe import probe_in_child
    from trtserve.model.plan_manifest import PlanGpu

    found = probe_in_child()
    if not found.devices:
        return None, found.problem or "CUDA shows no device"
    first = found.devices[0]
    return PlanGpu(
        first.name, first.compute_capability, found.driver_version, found.runtime_version
    ), ""


def _parser_module(wanted: str) -> object | None:
    """A module whose parser can be asked here; None if there is none."""
    from trtserve.build.module import find_module, is_rtx

    try:
        module: object = find_module(wanted)
    except OperatorError:
        if wanted:
            raise
        return None
    return module if is_rtx(module) or _gpu()[0] is not None else None


def _check_request(request: "PlanRequest") -> None:
    if request.profiles and (request.sizes or request.batches):
        raise ConfigurationError(
            "--profile gives whole shapes, so --sizes and --batch have no meaning beside it",
            where="profile", cure="Use one or the other",
        )
    if request.samples and request.precision != "fp16":
        raise ConfigurationError(
            "samples are what a converted graph is compared on, and nothing is converted",
            where="samples", cure="Use them with --precision fp16",
        )


def _absolute(repository: Path | None) -> Path:
    if repository is None:
        raise ConfigurationError(
            "no repository is named", where="repository",
            cure="Say where the plans go with --repository, or use --lint-only",
        )
    return repository.absolute()


def _model_name(name: str, *, given: bool) -> str:
    from trtserve.model.layout import MODEL_NAME

    if not given:
        name = re.sub(r"[^A-Za-z0-9._-]+", "_", name).lstrip("._-") or "model"
    if not MODEL_NAME.fullmatch(name):
        raise ConfigurationError(
            f"'{name}' is no model name", where="name",
            cure="Use letters, digits, '.', '_' and '-', and begin with a letter or a digit",
        )
    return name


def _words(text: str) -> tuple[str, ...]:
    return tuple(filter(None, (word.strip() for word in text.split(","))))


def _numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(map(int, _words(text)))
    except ValueError:
        raise ConfigurationError(
            f"'{text}' is not a list of numbers", where="batch", cure="Write them as 1,8,32"
        ) from None


def _default_cache() -> Path:
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(home) / "trtserve"
