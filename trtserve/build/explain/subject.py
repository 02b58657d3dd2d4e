"""What the operator wants explained: a model of the repository, or a file; found and explained."""

import re
from pathlib import Path

from trtserve.build.explain.explanation import Explanation
from trtserve.build.explain.onnx_file import explain_onnx
from trtserve.build.explain.plan import explain_layers, explain_plan
from trtserve.errors import ConfigurationError, RepositoryError
from trtserve.model.layout import VERSION_NAME
from trtserve.model.plan_manifest import MANIFEST_SUFFIX
from trtserve.model.version_folder import read_version

ONNX = ".onnx"
PLANS = (".plan", ".engine")
SUFFIXES = (ONNX, *PLANS)

_MODEL_AND_VERSION = re.compile(r"([^/]+)(?:/([1-9][0-9]*))?")


def find_files(name: str, repository: Path | None, version: int | None) -> tuple[Path, ...]:
    """The engine files that a name means: one file, or all of a version, the highest by default.

    `name` is a file, a model, or MODEL/VERSION. Raises RepositoryError or ConfigurationError.
    """
    path = Path(name)
    if path.is_file() or path.suffix in (*SUFFIXES, MANIFEST_SUFFIX):
        if not path.is_file():
            raise ConfigurationError("there is no such file", where=name, cure="Check the path")
        return (_plan_of(path),)
    found = _MODEL_AND_VERSION.fullmatch(name)
    if found is None:
        raise ConfigurationError(
            "there is no such file, and it is no model's name", where=name,
            cure=f"Give a file that ends in {', '.join(SUFFIXES)}, a model, or MODEL/VERSION",
        )
    if repository is None:
        raise ConfigurationError(
            f"there is no file '{name}', and no repository to look for a model in", where=name,
            cure="Give --repository or TRTSERVE_REPOSITORY",
        )
    number = int(found[2]) if found[2] else version
    return _files_of(repository, found[1], number)


def explain_file(
    path: Path, profile: int = 0, times: Path | None = None, run: str = "", *, cuda: bool = True
) -> Explanation:
    """Explain one file by what it is. Raises OperatorError."""
    if path.suffix == ONNX:
        if times is not None:
            raise ConfigurationError(
                "--times is for plans", where=str(path),
                cure="Have the model run and measured: --run",
            )
        return explain_onnx(path, run, cuda=cuda)
    if run:
        raise ConfigurationError(
            "--run is for .onnx files: a plan runs on its own GPU only", where=str(path),
            cure="Give its times with --times",
        )
    if path.suffix == MANIFEST_SUFFIX:
        return explain_layers(path, profile, times)
    return explain_plan(path, profile, times)


def pairs(
    these: tuple[Path, ...], others: tuple[Path, ...]
) -> list[tuple[Path, Path]]:
    """Which files to compare: those of one name, or the only ones. Raises ConfigurationError."""
    if len(these) == 1 and len(others) == 1:
        return [(these[0], others[0])]
    by_name = {path.name: path for path in others}
    found = [(path, by_name[path.name]) for path in these if path.name in by_name]
    if not found:
        raise ConfigurationError(
            f"there is {_names(these)} on one side and {_names(others)} on the other, none of one "
            "name", where="--against", cure="Name one file on each side",
        )
    return found


def _plan_of(path: Path) -> Path:
    """The plan whose manifest was named, if it was one."""
    plan = path.with_suffix("")
    if path.suffix == MANIFEST_SUFFIX and plan.suffix in PLANS and plan.is_file():
        return plan
    return path


def _files_of(repository: Path, model: str, version: int | None) -> tuple[Path, ...]:
    folder = repository / model
    try:
        names = [entry.name for entry in folder.iterdir() if entry.is_dir()]
    except OSError as error:
        raise RepositoryError(
            f"the model '{model}' can not be read: {error.strerror}", where=str(folder),
            cure="Check the model's name and --repository",
        ) from error
    numbers = sorted(int(name) for name in names if VERSION_NAME.fullmatch(name))
    if not numbers:
        raise RepositoryError(
            "the model has no version folder", where=str(folder),
            cure=f"Put its engine into {model}/1/",
        )
    if version is not None and version not in numbers:
        raise RepositoryError(
            f"the model has no version {version}; there is {', '.join(map(str, numbers))}",
            where=str(folder), cure="Name one that is there",
        )
    number = numbers[-1] if version is None else version
    found = read_version(number, folder / str(number), "", SUFFIXES)
    if found.error:
        first = next(item for item in found.findings if item.severity == "error")
        raise RepositoryError(first.problem, where=first.where, cure=first.cure)
    return found.files


def _names(paths: tuple[Path, ...]) -> str:
    return ", ".join(path.name for path in paths)
