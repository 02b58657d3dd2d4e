"""Loading models, in a thread of its own so that lanes and loop never wait for it.

Models load one after the other. Each posts what became of it; one that fails says why and
leaves the others alone.
"""

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from trtserve import clock
from trtserve.clock import NS_PER_S
from trtserve.device.interface import Device
from trtserve.engine.interface import Context, Engine, Runtime
from trtserve.errors import ModelLoadError, OperatorError, TrtserveError
from trtserve.ipc.message import ModelUpdate
from trtserve.model.configuration import ModelConfiguration, apply
from trtserve.model.repository import ModelFolder, Repository
from trtserve.model.spec import ModelState, VariantSpec, VersionSpec
from trtserve.model.version_folder import VersionFolder
from trtserve.worker.warmup import Measured, WarmUp

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LoadedVariant:
    """A variant with a context for each lane, and what its warm-up measured."""

    spec: VariantSpec
    contexts: tuple[Context, ...]
    measured: tuple[Measured, ...]


@dataclass(frozen=True, slots=True)
class Loaded:
    """A version that is ready to run. `seconds` is what loading and warming took.

    `batch_derived`: that dimension 0 is a batch was concluded from the engines' shapes only.
    """

    spec: VersionSpec
    variants: tuple[LoadedVariant, ...]
    seconds: float
    warnings: tuple[str, ...]
    batch_derived: bool = False


@dataclass(frozen=True, slots=True)
class Progress:
    """A version that is being loaded, or failed to."""

    update: ModelUpdate


@dataclass(frozen=True, slots=True)
class Finished:
    """Every model was tried."""

    models: int


LoadEvent = Loaded | Progress | Finished


class Loader:
    """Loads every model of a repository onto one device, in its thread.

    `contexts` is how many each variant gets: one for each lane, inline ones included.
    """

    def __init__(
        self, repository: Repository, runtimes: Sequence[Runtime], device: Device, contexts: int,
        warm_up: WarmUp,
    ) -> None:
        self._repository = repository
        self._runtimes = runtimes
        self._device = device
        self._contexts = contexts
        self._warm_up = warm_up
        self._post: Callable[[LoadEvent], None] = lambda _: None

    def start(self, post: Callable[[LoadEvent], None]) -> None:
        """Begin. `post` is called from the loader's thread."""
        self._post = post
        threading.Thread(target=self._run, name="loader", daemon=True).start()

    def _run(self) -> None:
        models = self._repository.models
        for model in models:
            for update in _announce(model):
                self._post(Progress(update))
        for model in models:
            if model.configuration is not None:
                for version in model.versions:
                    self._post(self._load(model, version, model.configuration))
        self._warm_up.close()
        self._post(Finished(len(models)))

    def _load(
        self, model: ModelFolder, version: VersionFolder, configuration: ModelConfiguration
    ) -> LoadEvent:
        started = clock.now_ns()
        try:
            spec, engines = load_version(
                model.name, version, configuration, self._runtimes, self._device
            )
            variants = self._prepare(spec, engines, configuration)
        except TrtserveError as error:
            log.error("model %s version %d does not load: %s", model.name, version.version, error)
            return Progress(_failure(model.name, version.version, error))
        except Exception:  # an adapter's bug must not take the other models down
            log.exception("model %s version %d does not load", model.name, version.version)
            ours = ModelLoadError("an error of the server's own; its log has the details")
            return Progress(_failure(model.name, version.version, ours))
        seconds = (clock.now_ns() - started) / NS_PER_S
        return Loaded(
            spec, variants, seconds, tuple(configuration.warnings),
            batch_derived=configuration.max_batch_size is None,
        )

    def _prepare(
        self, spec: VersionSpec, engines: Sequence[tuple[Engine, int]],
        configuration: ModelConfiguration,
    ) -> tuple[LoadedVariant, ...]:
        """Contexts for the lanes, and the warm-up. Closes everything when it raises."""
        contexts: list[Context] = []
        variants: list[LoadedVariant] = []
        try:
            for (engine, index), variant in zip(engines, spec.variants, strict=True):
                contexts += [engine.create_context(index) for _ in range(self._contexts)]
                measured = self._warm_up.run(
                    variant, engine.create_context(index), configuration.warmups
                )
                own = tuple(contexts[-self._contexts:])
                variants.append(LoadedVariant(variant, own, measured))
        except BaseException:
            for context in contexts:
                context.close()
            for engine, _ in engines:
                engine.close()
            raise
        return tuple(variants)


def served_suffixes(runtimes: Sequence[Runtime]) -> tuple[str, ...]:
    """The ends of the file names that some runtime loads."""
    return tuple(suffix for runtime in runtimes for suffix in runtime.suffixes)


def load_version(
    model: str,
    folder: VersionFolder,
    configuration: ModelConfiguration,
    runtimes: Sequence[Runtime],
    device: Device,
) -> tuple[VersionSpec, list[tuple[Engine, int]]]:
    """Load the engines of one version and fit the configuration to them.

    Returns the specification and, for each of its variants, the engine and the variant's index
    in it. Nothing stays loaded when it raises: ModelLoadError, ConfigurationError or
    RepositoryError.
    """
    for finding in folder.findings:
        if finding.severity == "error":
            raise ModelLoadError(finding.problem, where=finding.where, cure=finding.cure)
    engines: list[Engine] = []
    try:
        for file in folder.files:
            runtime = next(
                runtime for runtime in runtimes if file.name.endswith(tuple(runtime.suffixes))
            )
            engines.append(runtime.load(str(file), device, configuration.parameters))
        variants = tuple(variant for engine in engines for variant in engine.variants)
        spec = apply(configuration, model, folder.version, engines[0].platform, variants)
    except BaseException:
        for engine in engines:
            engine.close()
        raise
    places = [(engine, index) for engine in engines for index in range(len(engine.variants))]
    return spec, places


def _announce(model: ModelFolder) -> list[ModelUpdate]:
    """What to tell of a model before it is loaded."""
    if model.configuration is None or not model.versions:
        # A model that can not be read has no version; 0 stands for it.
        error = ModelLoadError("no version of it is chosen")
        for finding in model.findings:
            if finding.severity == "error":
                error = ModelLoadError(finding.problem, where=finding.where, cure=finding.cure)
                break
        return [_failure(model.name, 0, error)]
    return [
        ModelUpdate(model.name, version.version, ModelState.LOADING)
        for version in model.versions
    ]


def _failure(model: str, version: int, error: TrtserveError) -> ModelUpdate:
    if not isinstance(error, OperatorError):
        return ModelUpdate(model, version, ModelState.UNAVAILABLE, str(error))
    cure = f". {error.cure}" if error.cure else ""
    return ModelUpdate(
        model, version, ModelState.UNAVAILABLE, error.problem + cure, where=error.where
    )
