"""Loading models, in a thread of its own so that lanes and loop never wait for it.

Models load one after the other. Each posts what became of it; one that fails says why and
leaves the others alone. Afterwards the thread does what it is asked to, in that order: it makes
contexts for the buckets that prove to come often, and closes those of buckets that do not come any
more; it loads models beside those that serve, and frees models that serve no more.
"""

import logging
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from queue import SimpleQueue

from trtserve import clock
from trtserve.clock import NS_PER_S
from trtserve.device.interface import Device
from trtserve.engine.interface import Engine, Runtime
from trtserve.errors import DeviceError, ModelLoadError, OperatorError, TrtserveError
from trtserve.ipc.message import Bucket, ModelUpdate
from trtserve.model.configuration import ModelConfiguration, apply
from trtserve.model.placement import Placed, place
from trtserve.model.repository import ModelFolder, Repository, read_model
from trtserve.model.spec import ModelState, VersionSpec
from trtserve.model.version_folder import VersionFolder, without_plans
from trtserve.worker.contexts import Pinned
from trtserve.worker.equip import Equipment, Equipper
from trtserve.worker.golden import check_golden
from trtserve.worker.load_memory import watch
from trtserve.worker.loading import (
    Begun,
    DeviceLost,
    Finished,
    FreedModel,
    Loaded,
    LoadEvent,
    PinsMade,
    Progress,
    StagedModel,
    Unloading,
)
from trtserve.worker.memory import give_back, used_bytes
from trtserve.worker.prepare import Source

log = logging.getLogger(__name__)

Post = Callable[[LoadEvent], None]


class Loader:
    """Loads every model of a repository onto one device, in its thread.

    `equipper` makes the contexts on the lanes. `devices` are all of the daemon's, by name: models
    that live on others only are left out.
    """

    def __init__(
        self, repository: Repository, runtimes: Sequence[Runtime], device: Device,
        equipper: Equipper, devices: Sequence[str] = (),
    ) -> None:
        self._repository = repository
        self._runtimes = runtimes
        self._device = device
        self._equipper = equipper
        self._devices = devices or (device.name,)
        self._work: SimpleQueue[Callable[[], LoadEvent | None] | None] = SimpleQueue()
        self._abandoned: set[int] = set()
        self._post: Post = lambda _: None
        # A daemon: what it waits for may never come once the loop has ended.
        self._thread = threading.Thread(target=self._run, name="loader", daemon=True)

    def start(self, post: Post) -> None:
        """Begin. `post` is called from the loader's thread."""
        self._post = post
        self._equipper.lend_from(post)
        self._thread.start()

    def pin(self, number: int, equipment: Equipment, bucket: Bucket) -> None:
        """Make contexts for a bucket of a resident variant; PinsMade tells the outcome."""
        self._work.put(lambda: self._pin(number, equipment, bucket))

    def unpin(self, equipment: Equipment, pinned: Sequence[Pinned | None]) -> None:
        """Close contexts of a bucket, one entry for each lane, that no batch is given any more."""
        self._work.put(lambda: self._unpin(equipment, pinned))

    def stage(self, order: int, model: str, folder: Path) -> None:
        """Load a model beside what serves. Begun and then StagedModel tell how it goes."""
        self._work.put(lambda: self._stage(order, model, folder))

    def abandon(self, order: int) -> None:
        """What that order is to load is not wanted any more. StagedModel comes all the same."""
        self._abandoned.add(order)

    def unload(self, order: int) -> None:
        """Unloading comes once everything that was asked before is done."""
        self._work.put(lambda: Unloading(order, used_bytes(self._device)))

    def free(self, order: int, equipments: Sequence[Equipment]) -> None:
        """Close contexts and engines that run no batch any more; FreedModel tells when."""
        self._work.put(lambda: self._free(order, equipments))

    def close(self) -> None:
        """End the thread once it has done what it was asked. Twice is harmless."""
        self._work.put(None)

    def _run(self) -> None:
        try:
            self._device.enter_thread()
            self._load_all()
            while (work := self._work.get()) is not None:
                event = work()
                if event is not None:
                    self._post(event)
                # No reference stays here while the thread waits: what it is to may be freed.
                del work, event
        except DeviceError as error:
            self._post(DeviceLost(error))

    def _load_all(self) -> None:
        here = [model for model in self._repository.models if self._placed(model) is not None]
        for model in here:
            for update in _announce(model):
                self._post(Progress(update))
        for model in here:
            placed = self._placed(model)
            if model.configuration is not None and placed is not None:
                for version in model.versions:
                    self._post(self._load(model, version, model.configuration, placed))
        self._equipper.finished()
        self._post(Finished(len(here)))

    def _placed(self, model: ModelFolder) -> Placed | None:
        """How a model lives here. One that can not be read is told of by every worker."""
        if model.configuration is None:
            return Placed()
        return place(model.configuration, self._devices, self._device.name)

    def _load(
        self, model: ModelFolder, version: VersionFolder, configuration: ModelConfiguration,
        placed: Placed,
    ) -> Loaded | Progress:
        """Load one version. Raises DeviceError when the device is lost."""
        try:
            return self._make(model, version, configuration, placed)
        except Exception as error:
            name, number = model.name, version.version
            return Progress(_failure(name, number, _explained(error, name, number)))

    def _make(
        self, model: ModelFolder, version: VersionFolder, configuration: ModelConfiguration,
        placed: Placed,
    ) -> Loaded:
        """Load one version and watch the memory, or raise why that can not be; then nothing of
        it stays."""
        with watch(self._device) as meter:
            loaded = self._load_version(model, version, configuration, placed)
            return replace(loaded, memory=meter.result())

    def _load_version(
        self, model: ModelFolder, version: VersionFolder, configuration: ModelConfiguration,
        placed: Placed,
    ) -> Loaded:
        started = clock.now_ns()
        if self._device.unified:
            version = without_plans(version)
        spec, engines = load_version(
            model.name, version, configuration, self._runtimes, self._device
        )
        try:
            equipments = self._equipper.equip([
                Source(
                    engine, index, variant, engine.captures,
                    vouched=configuration.max_batch_size is not None,
                )
                for (engine, index), variant in zip(engines, spec.variants, strict=True)
            ], configuration.warmups)
        except BaseException:
            close_engines(engines)
            raise
        try:
            check_golden(version.path, spec, lambda route, inputs: self._equipper.answer(
                equipments[route.variant], route.bucket, route.rows, inputs
            ))
        except DeviceError as error:
            if not error.sticky:
                self._discard(equipments)
            raise
        except BaseException:
            self._discard(equipments)
            raise
        seconds = (clock.now_ns() - started) / NS_PER_S
        warnings = (
            *configuration.warnings, *version.warnings, *filter(None, [placed.warning])
        )
        return Loaded(
            spec, tuple(equipments), seconds, warnings,
            batch_derived=configuration.max_batch_size is None, lanes=placed.lanes,
        )

    # --- orders --------------------------------------------------------------------------

    def _stage(self, order: int, name: str, folder: Path) -> StagedModel:
        """Load all versions of a model, or none. Raises DeviceError when the device is lost."""
        try:
            return self._stage_all(order, name, folder)
        except Exception as error:
            # Whatever it is, somebody waits for an answer, and others for this thread.
            told = _failure(name, 0, _explained(error, name, 0))
            return StagedModel(order, failures=(told,), error=told.reason, where=told.where)

    def _stage_all(self, order: int, name: str, folder: Path) -> StagedModel:
        before = used_bytes(self._device)
        model = read_model(name, folder, served_suffixes(self._runtimes))
        placed = self._placed(model)
        if placed is None:
            self._post(Begun(order, (), before))
            return StagedModel(order)
        told = tuple(_announce(model))
        if model.configuration is None or not model.versions:
            self._post(Begun(order, (), before))
            return StagedModel(order, failures=told, error=told[0].reason, where=told[0].where)
        self._post(Begun(order, told, before))
        done: list[Loaded] = []
        try:
            for version in model.versions:
                if order in self._abandoned:
                    raise ModelLoadError("it was not wanted any more")
                done.append(self._make(model, version, model.configuration, placed))
        except Exception as error:
            self._discard([each for loaded in done for each in loaded.variants])
            number = version.version
            failed = _not_staged(order, model, number, _explained(error, name, number))
        else:
            return StagedModel(order, tuple(done))
        finally:
            self._equipper.finished()
        give_back(self._device)
        return failed

    def _free(self, order: int, equipments: Sequence[Equipment]) -> FreedModel:
        """Close everything of these variants. Raises DeviceError when the device is lost."""
        self._discard(equipments)
        self._equipper.finished()
        self._abandoned.discard(order)
        give_back(self._device)
        return FreedModel(order, used_bytes(self._device))

    def _discard(self, equipments: Iterable[Equipment]) -> None:
        """Close contexts and engines; what does not close leaves the others alone."""
        engines: dict[int, Engine] = {}
        for equipment in equipments:
            engine = equipment.source.engine
            engines[id(engine)] = engine
            self._try_to(partial(self._equipper.strip, equipment))
        for engine in engines.values():
            self._try_to(engine.close)

    def _try_to(self, close: Callable[[], None]) -> None:
        try:
            close()
        except DeviceError as error:
            if error.sticky:
                raise
            log.warning("something of a model does not close: %s", error)
        except Exception:
            log.exception("something of a model does not close")

    # --- buckets -------------------------------------------------------------------------

    def _pin(self, number: int, equipment: Equipment, bucket: Bucket) -> PinsMade:
        """Make contexts for a bucket. Raises DeviceError when the device is lost."""
        name = equipment.source.variant.name
        try:
            pinned, measured = self._equipper.pin(equipment, bucket)
        except TrtserveError as error:
            if isinstance(error, DeviceError) and error.sticky:
                raise
            log.warning("%s gets no contexts of its own for %s: %s", name, list(bucket), error)
        except Exception:  # an adapter's bug: the thread and the models go on
            log.exception("%s gets no contexts of its own for %s", name, list(bucket))
        else:
            return PinsMade(number, bucket, tuple(pinned), tuple(measured))
        return PinsMade(number, bucket, (), ())

    def _unpin(self, equipment: Equipment, pinned: Sequence[Pinned | None]) -> None:
        """Close contexts. Raises DeviceError when the device is lost."""
        try:
            self._equipper.unpin(equipment, pinned)
        except DeviceError as error:
            if error.sticky:
                raise
            log.warning("%s: %s", equipment.source.variant.name, error)
        except Exception:
            log.exception("contexts of %s do not close", equipment.source.variant.name)


def close_engines(engines: Sequence[tuple[Engine, int]]) -> None:
    """Free their weights. Their contexts are closed."""
    for engine, _ in engines:
        engine.close()


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


def _not_staged(
    order: int, model: ModelFolder, version: int, error: TrtserveError
) -> StagedModel:
    """What to tell of a model of which that version does not load."""
    first = _failure(model.name, version, error)
    others = ModelLoadError(f"version {version} of the model does not load")
    several = len(model.versions) > 1
    return StagedModel(
        order,
        failures=tuple(
            first if each.version == version else _failure(model.name, each.version, others)
            for each in model.versions
        ),
        error=f"version {version}: {first.reason}" if several else first.reason,
        where=first.where,
    )


def _explained(error: Exception, model: str, version: int) -> TrtserveError:
    """Why a version does not load, for those who asked; logged. Raises a sticky DeviceError."""
    if isinstance(error, DeviceError):
        if error.sticky:
            raise error
        log.error("model %s version %d does not load: %s", model, version, error)
        return ModelLoadError(
            str(error), cure="Free device memory, or serve it on fewer lanes or another device"
        )
    if isinstance(error, TrtserveError):
        log.error("model %s version %d does not load: %s", model, version, error)
        return error
    # An adapter's bug must not take the other models down.
    log.error("model %s version %d does not load", model, version, exc_info=error)
    return ModelLoadError("an error of the server's own; its log has the details")


def _failure(model: str, version: int, error: TrtserveError) -> ModelUpdate:
    if not isinstance(error, OperatorError):
        return ModelUpdate(model, version, ModelState.UNAVAILABLE, str(error))
    cure = f". {error.cure}" if error.cure else ""
    return ModelUpdate(
        model, version, ModelState.UNAVAILABLE, error.problem + cure, where=error.where
    )
