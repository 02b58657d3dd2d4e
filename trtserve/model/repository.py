"""The model repository: a folder of models, read without loading any engine.

    ROOT/MODEL/VERSION/FILE.onnx       VERSION is 1, 2, 3 ...; each engine file is a variant
    ROOT/MODEL/config.pbtxt            optional, or config.yaml, or config.json

Links are followed wherever they lead: mounted volumes are often made of them. Names that begin
with a dot are passed over.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from trtserve.errors import OperatorError, RepositoryError
from trtserve.model.configuration import ModelConfiguration, read_configuration
from trtserve.model.finding import Finding
from trtserve.model.layout import MODEL_NAME, PASSED_OVER, VERSION_NAME, is_text
from trtserve.model.version_folder import VersionFolder, missing_version, read_version
from trtserve.model.version_labels import check_served


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """One model's folder. `versions` are those that the version policy chose, ascending.

    `findings` are the model's own; each version has its own too. A model whose configuration
    or layout can not be read has no versions and says so in `error`.
    """

    name: str
    path: Path
    configuration: ModelConfiguration | None = None
    versions: tuple[VersionFolder, ...] = ()
    findings: tuple[Finding, ...] = ()

    @property
    def error(self) -> str:
        """Why no version of it can be served; empty where nothing stands in the way."""
        return "; ".join(str(item) for item in self.findings if item.severity == "error")


@dataclass(frozen=True, slots=True)
class Repository:
    """All models of a repository, by name, and what is wrong with it as a whole."""

    root: Path
    models: tuple[ModelFolder, ...] = ()
    own_findings: tuple[Finding, ...] = ()

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Everything to tell: the repository's own, then by model and version."""
        return tuple(self._all())

    def _all(self) -> Iterator[Finding]:
        yield from self.own_findings
        for model in self.models:
            yield from model.findings
            for version in model.versions:
                yield from version.findings


def scan(root: Path, suffixes: Collection[str]) -> Repository:
    """Read the repository. `suffixes` are the ends of the file names that the engines load.

    Raises nothing: whatever is wrong is a finding, and one broken model never hides the others.
    """
    ends = tuple(suffixes)
    try:
        entries = _visible(root)
    except OSError as error:
        return Repository(root, (), (_unreadable_root(root, error),))
    folders = [
        entry for entry in entries
        if entry.is_dir() and entry.name not in PASSED_OVER and is_text(entry.name)
    ]
    findings = [
        Finding(
            "warning", str(root), f"a name is no UTF-8 and is passed over: {entry.name!a}",
            "Rename it",
        )
        for entry in entries if not is_text(entry.name)
    ]
    findings += [
        finding for entry in entries if not entry.is_dir() and is_text(entry.name)
        for finding in _loose_file(entry, ends)
    ]
    if not folders:
        findings.append(Finding(
            "error", str(root), "the repository holds no models",
            f"Add ROOT/MODEL/1/FILE{ends[0] if ends else ''}",
        ))
    models = tuple(read_model(folder.name, folder, ends) for folder in folders)
    return Repository(root, models, tuple(findings))


def read_model(name: str, folder: Path, suffixes: Collection[str]) -> ModelFolder:
    """Read one model's folder, which need not be called as the model is.

    Raises nothing: whatever is wrong is a finding.
    """
    try:
        return _read_model(name, folder, tuple(suffixes))
    except OperatorError as error:
        return ModelFolder(name, folder, findings=(Finding.of(error),))
    except OSError as error:
        finding = Finding(
            "error", str(error.filename or folder), f"can not be read: {error.strerror}",
            "Let this user read it",
        )
        return ModelFolder(name, folder, findings=(finding,))


def _read_model(name: str, folder: Path, suffixes: tuple[str, ...]) -> ModelFolder:
    if not MODEL_NAME.fullmatch(name):
        raise RepositoryError(
            f"'{name}' is no model name", where=str(folder),
            cure="Use letters, digits, '.', '_' and '-', and begin with a letter or a digit",
        )
    configuration = read_configuration(folder, name)
    entries = _visible(folder)
    numbers = {
        int(entry.name): entry
        for entry in entries if VERSION_NAME.fullmatch(entry.name) and entry.is_dir()
    }
    if not numbers:
        raise _no_versions(folder, entries, suffixes)
    only = configuration.default_model_filename
    chosen = configuration.version_policy.choose(numbers)
    check_served(configuration.names, chosen, numbers, configuration.origin)
    versions = tuple(
        read_version(number, numbers[number], only, suffixes) if number in numbers
        else missing_version(number, folder, sorted(numbers))
        for number in chosen
    )
    strays = tuple(_strays(entries, numbers.values(), suffixes))
    return ModelFolder(name, folder, configuration, versions, configuration.findings + strays)


def _no_versions(
    folder: Path, entries: list[Path], suffixes: tuple[str, ...]
) -> RepositoryError:
    engines = [entry.name for entry in entries if entry.name.endswith(suffixes)]
    named = [entry.name for entry in entries if entry.is_dir()]
    if engines:
        problem = f"{', '.join(engines)} lies in the model's folder, not in a version's"
        cure = f"Move it to {folder.name}/1/"
        if VERSION_NAME.fullmatch(folder.name):
            cure = f"If {folder.parent.name} is the model, serve the folder that holds it"
    elif named:
        problem = f"no folder of the model is a version; there is {', '.join(named)}"
        cure = "Name version folders 1, 2, 3 and so on"
    else:
        problem = "the model has no version folder"
        cure = f"Put its engine into {folder.name}/1/"
    return RepositoryError(problem, where=str(folder), cure=cure)


def _strays(
    entries: list[Path], versions: Collection[Path], suffixes: tuple[str, ...]
) -> Iterator[Finding]:
    """Engines of a model with versions that lie where none is looked for."""
    for entry in entries:
        if entry in versions:
            continue
        if entry.is_dir() and any(item.name.endswith(suffixes) for item in _visible(entry)):
            yield Finding(
                "warning", str(entry), f"'{entry.name}' holds engines and is no version number",
                "Name it by a number to have it served",
            )
        elif not entry.is_dir() and entry.name.endswith(suffixes):
            yield Finding(
                "warning", str(entry), "this engine is not served: it lies beside the versions",
                "Move it into a version folder",
            )


def _loose_file(entry: Path, suffixes: tuple[str, ...]) -> Iterator[Finding]:
    """What a file in the root says about a mistake."""
    if not entry.exists():
        yield Finding(
            "error", str(entry), "this link leads nowhere", "Mount or mend what it points to"
        )
    elif entry.name.endswith(suffixes):
        stem = entry.name.partition(".")[0]
        yield Finding(
            "warning", str(entry), "this engine is not served: it lies in the repository's root",
            f"Move it to {stem}/1/",
        )
    elif entry.name.startswith("config."):
        yield Finding(
            "warning", str(entry), "a configuration in the repository's root is not read",
            "If this folder is a model, serve the folder that holds it",
        )


def _unreadable_root(root: Path, error: OSError) -> Finding:
    if not root.exists():
        return Finding("error", str(root), "the repository does not exist", "Check the path")
    if not root.is_dir():
        return Finding(
            "error", str(root), "the repository is a file",
            "Name the folder that holds the models' folders",
        )
    return Finding(
        "error", str(root), f"the repository can not be read: {error.strerror}",
        "Let this user read it",
    )


def _visible(folder: Path) -> list[Path]:
    return sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
