"""One version of a model on disk: which of its files are engines, and what is wrong with them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from trtserve.model.finding import Finding
from trtserve.model.layout import is_text

_PLAN_SUFFIXES = (".plan", ".engine")
"""What TensorRT's tools write."""

_PLANS_UNSERVED = "no TensorRT is installed here, which TensorRT plans need"
_PLANS_CURE = "pip install 'trtserve[tensorrt]' (trtserve[rtx] for plans of TensorRT-RTX)"

_PLAN_ON_CPU = "left out: plans run on GPUs only, and this version lives on the CPU"
_PLAN_CURE = "Serve it on a GPU (--devices cuda:0), or take the plan away"

_LFS_HEAD = b"version https://git-lfs"
"""How a Git LFS pointer begins: what a checkout without LFS has in a model's place."""


@dataclass(frozen=True, slots=True)
class VersionFolder:
    """One version's folder and its engine files, by name. Each file is a variant or several."""

    version: int
    path: Path
    files: tuple[Path, ...] = ()
    findings: tuple[Finding, ...] = ()

    @property
    def error(self) -> str:
        """Why it can not be served; empty where nothing stands in the way."""
        return "; ".join(str(item) for item in self.findings if item.severity == "error")

    @property
    def warnings(self) -> tuple[str, ...]:
        """What disappoints though it is served."""
        return tuple(str(item) for item in self.findings if item.severity == "warning")


def read_version(
    version: int, path: Path, only: str, suffixes: tuple[str, ...]
) -> VersionFolder:
    """Find the engine files: all with a known suffix, or the one named `only`."""
    try:
        names = sorted(item.name for item in path.iterdir() if not item.name.startswith("."))
        engines = [name for name in names if name.endswith(suffixes) and only in ("", name)]
        files = tuple(path / name for name in engines)
        problems = [finding for file in files for finding in _file_problems(file)]
    except OSError as error:
        finding = Finding(
            "error", str(error.filename or path), f"can not be read: {error.strerror}",
            "Let this user read it",
        )
        return VersionFolder(version, path, (), (finding,))
    if not files:
        problems.append(_no_engine(path, only, names, suffixes))
    elif not only:
        problems += [
            Finding("warning", str(path / name), _PLANS_UNSERVED, _PLANS_CURE)
            for name in names if _is_unserved_plan(name, suffixes)
        ]
    return VersionFolder(version, path, files, tuple(problems))


def without_plans(folder: VersionFolder) -> VersionFolder:
    """The version as the CPU serves it: plans are left out, with a warning each, where there is
    another engine file. Else it stays as it is, and its plans fail to load."""
    plans = [file for file in folder.files if file.name.endswith(_PLAN_SUFFIXES)]
    if not plans or len(plans) == len(folder.files):
        return folder
    left_out = tuple(Finding("warning", str(plan), _PLAN_ON_CPU, _PLAN_CURE) for plan in plans)
    return replace(
        folder, files=tuple(file for file in folder.files if file not in plans),
        findings=(*folder.findings, *left_out),
    )


def missing_version(version: int, model: Path, present: Sequence[int]) -> VersionFolder:
    """A version that the policy names and that is not there."""
    finding = Finding(
        "error", str(model), f"version_policy names version {version}, which is not there",
        f"Add the folder {version}, or name others: there is {', '.join(map(str, present))}",
    )
    return VersionFolder(version, model / str(version), (), (finding,))


def _is_unserved_plan(name: str, suffixes: tuple[str, ...]) -> bool:
    return name.endswith(_PLAN_SUFFIXES) and not name.endswith(suffixes)


def _no_engine(path: Path, only: str, names: list[str], suffixes: tuple[str, ...]) -> Finding:
    served = " or ".join(suffixes)
    there = f"there is {', '.join(names)}" if names else "it is empty"
    wanted = [only] if only in names else [] if only else names
    if any(_is_unserved_plan(name, suffixes) for name in wanted):
        cure = f"{_PLANS_CURE}, or add a file that ends in {served}"
        return Finding("error", str(path), f"{_PLANS_UNSERVED}; {there}", cure)
    if only and only not in names:
        return Finding(
            "error", str(path), f"default_model_filename '{only}' is not there; {there}",
            "Add the file, or mend its name in the configuration",
        )
    if only:
        return Finding(
            "error", str(path), f"default_model_filename '{only}' is no kind of file that is "
            "served", f"Name a file that ends in {served}",
        )
    return Finding(
        "error", str(path), f"the version has no engine file; {there}",
        f"Add a file that ends in {served}",
    )


def _file_problems(file: Path) -> list[Finding]:
    """What is wrong with an engine file before any runtime looks at it."""
    def error(problem: str, cure: str) -> list[Finding]:
        return [Finding("error", str(file), problem, cure)]

    if not is_text(file.name):
        return error("the file's name is no UTF-8", "Rename it")
    if not file.exists():
        return error("this link leads nowhere", "Mount or mend what it points to")
    if not file.is_file():
        return error("this is no file", "Put the engine file itself into the version folder")
    with file.open("rb") as stream:
        head = stream.read(len(_LFS_HEAD))
    if not head:
        return error("the file is empty", "Copy it again")
    if head == _LFS_HEAD:
        return error(
            "this is a Git LFS pointer, not the model", "Run `git lfs pull` where it came from"
        )
    return []
