"""One build: an ONNX file, profiles and options in, a plan out.

One code for `tensorrt` and `tensorrt_rtx`: the module is a parameter. Their calls fail by
returning None or False; here each such failure becomes an error with TensorRT's own reason.
"""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from trtserve.build.inspection import inspect_plan
from trtserve.build.messages import cure, message_log, parser_errors, readable
from trtserve.build.module import is_rtx
from trtserve.build.network import describe_network
from trtserve.build.progress import BuildCancelled, Observer, monitor
from trtserve.build.timing_cache import TimingCache
from trtserve.clock import NS_PER_S, now_ns
from trtserve.errors import ConfigurationError, ModelLoadError
from trtserve.model.plan_fit import TITLES
from trtserve.model.plan_manifest import (
    EngineReport,
    Network,
    PlanGpu,
    PlanOptions,
    PlanProfile,
)

_MIB = 1 << 20

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class BuildOrder:
    """One plan to build. `where` is what errors call the model."""

    graph: Path
    profiles: tuple[PlanProfile, ...]
    options: PlanOptions
    where: str


@dataclass(frozen=True, slots=True)
class Built:
    """A plan, in memory, and what is known about it. `user_allocation`: contexts have to be
    given their scratch memory."""

    plan: memoryview
    seconds: float
    network: Network
    engine: EngineReport | None
    timing_cache: str
    user_allocation: bool
    warnings: tuple[str, ...]


class PlanBuilder:
    """Builds plans with one module for one GPU; `gpu` None: there is none here, `no_gpu` says
    why."""

    def __init__(
        self, module: Any, gpu: PlanGpu | None, no_gpu: str, timing: TimingCache | None,
        observer: Observer,
    ) -> None:
        self._module = module
        self._gpu = gpu
        self._no_gpu = no_gpu
        self._timing = timing
        self._observer = observer

    def check(self, options: PlanOptions) -> None:
        """Refuse what can not be built here. Raises ConfigurationError or ModelLoadError."""
        title = TITLES[self._module.__name__]
        if is_rtx(self._module):
            _check_rtx_options(self._module, options)
            return
        if options.compute_capabilities:
            raise ConfigurationError(
                f"{title} builds for the GPU that is here", where="compute_capability",
                cure="Leave it out, or use --module tensorrt_rtx",
            )
        if self._gpu is None:  # its builder may crash without one
            raise ModelLoadError(
                f"{title} measures kernels on the GPU that it builds for, and none can be used "
                f"here: {self._no_gpu}",
                cure="Build on a machine with that GPU; --module tensorrt_rtx builds without "
                     "one, for GeForce and RTX GPUs",
            )

    def build(self, order: BuildOrder) -> Built:
        """Build one plan. Ctrl-C ends it at its next step.

        Raises ModelLoadError with TensorRT's reason, and BuildCancelled.
        """
        return self._cancellable(lambda cancelled: _Build(
            self._module, order, cancelled, self._observer, self._timing, self._gpu is not None
        ).run())

    def _cancellable(self, work: Callable[[threading.Event], _T]) -> _T:
        """Do the work in another thread, since signals only reach this one between two lines of
        Python, and a build is one line."""
        cancelled = threading.Event()
        results: list[_T] = []
        errors: list[BaseException] = []

        def do() -> None:
            try:
                results.append(work(cancelled))
            except BaseException as error:
                errors.append(error)

        thread = threading.Thread(target=do, name="builder", daemon=True)
        with self._ctrl_c_sets(cancelled):
            thread.start()
            thread.join()
        # A build that was stopped fails as any other does.
        if errors and not (cancelled.is_set() and isinstance(errors[0], ModelLoadError)):
            raise errors[0]
        if cancelled.is_set():
            raise BuildCancelled("the build was cancelled", cure="Nothing was written")
        return results[0]

    @contextmanager
    def _ctrl_c_sets(self, cancelled: threading.Event) -> Iterator[None]:
        """The first Ctrl-C sets it; the second is for those who do not want to wait."""

        def cancel(*_: object) -> None:
            if cancelled.is_set():
                raise KeyboardInterrupt
            cancelled.set()
            self._observer.note("Cancelling: the builder ends at its next step")

        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = signal.signal(signal.SIGINT, cancel)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)


class _Build:
    """One run of the builder, in its own thread."""

    def __init__(
        self, module: Any, order: BuildOrder, cancelled: threading.Event, observer: Observer,
        timing: TimingCache | None, has_gpu: bool,
    ) -> None:
        self._module = module
        self._order = order
        self._cancelled = cancelled
        self._observer = observer
        self._timing = timing
        self._has_gpu = has_gpu
        self._log = message_log(module)
        self._broken: Exception | None = None

    def run(self) -> Built:
        module = self._module
        began = now_ns()
        module.init_libnvinfer_plugins(self._log, "")
        builder = self._made(module.Builder(self._log), "no builder could be made")
        network = self._made(
            builder.create_network(_network_flags(module)), "no network could be made"
        )
        self._parse(network)
        config = self._made(builder.create_builder_config(), "no configuration could be made")
        # TensorRT keeps a pointer to it: it has to live until the build is over.
        watcher = monitor(module, self._cancelled, self._advance)
        config.progress_monitor = watcher
        self._set_options(config)
        self._add_profiles(builder, config)
        if self._timing is not None:
            self._timing.attach(config)
        described = describe_network(network)
        plan, user_allocation = self._serialize(builder, network, config)
        data = memoryview(plan).cast("B")
        seconds = (now_ns() - began) / NS_PER_S
        kept = self._timing.keep(config) if self._timing is not None else ""
        engine = self._inspect(plan)
        return Built(
            data, seconds, described, engine, kept, user_allocation,
            tuple(self._log.warnings),
        )

    def _parse(self, network: Any) -> None:
        parser = self._module.OnnxParser(network, self._log)
        if not parser.parse_from_file(str(self._order.graph)):
            raise self._failed("the ONNX parser refuses the model", parser_errors(parser))

    def _set_options(self, config: Any) -> None:
        module, options = self._module, self._order.options
        # Without it nobody can tell later which kernels were chosen. It costs some bytes of the
        # plan, and time at each run unless the context lowers its nvtx_verbosity.
        config.profiling_verbosity = module.ProfilingVerbosity.DETAILED
        if options.level is not None:
            config.builder_optimization_level = options.level
        if options.workspace_mib is not None:
            config.set_memory_pool_limit(
                module.MemoryPoolType.WORKSPACE, options.workspace_mib * _MIB
            )
        if options.version_compatible:
            config.set_flag(module.BuilderFlag.VERSION_COMPATIBLE)
        if options.hardware_compatibility != "none":
            config.hardware_compatibility_level = getattr(
                module.HardwareCompatibilityLevel, options.hardware_compatibility.upper()
            )
        if options.compute_capabilities:
            config.num_compute_capabilities = len(options.compute_capabilities)
            for index, name in enumerate(options.compute_capabilities):
                if not config.set_compute_capability(
                    getattr(module.ComputeCapability, name), index
                ):
                    raise self._failed(f"{name} is refused")

    def _add_profiles(self, builder: Any, config: Any) -> None:
        for index, profile in enumerate(self._order.profiles):
            made = self._made(
                builder.create_optimization_profile(), "no profile could be made"
            )
            for name, shapes in profile.shapes.items():
                made.set_shape(name, shapes.min, shapes.opt or shapes.max, shapes.max)
            if config.add_optimization_profile(made) != index:
                raise self._failed(f"profile '{profile.name}' is refused")

    def _serialize(self, builder: Any, network: Any, config: Any) -> tuple[Any, bool]:
        """The plan, and whether its contexts have to be given their scratch memory."""
        flag = getattr(self._module.BuilderFlag, "REQUIRE_USER_ALLOCATION", None)
        if flag is not None:
            # Lanes give contexts their memory anyway, and only then can runs be captured.
            config.set_flag(flag)
            plan = builder.build_serialized_network(network, config)
            if plan is not None or self._cancelled.is_set():
                return self._made(plan, "the build failed"), True
            # Not possible with outputs whose size depends on the data.
            config.clear_flag(flag)
        plan = builder.build_serialized_network(network, config)
        return self._made(plan, "the build failed"), False

    def _inspect(self, plan: Any) -> EngineReport | None:
        if not self._has_gpu:
            return None
        options = self._order.options
        log = message_log(self._module)
        report = inspect_plan(
            self._module, log, plan, len(self._order.profiles),
            host_code=options.version_compatible,
        )
        if report is None:
            self._observer.note(
                f"The plan can not be loaded here, so nothing is known about its layers: "
                f"{readable(log.errors)}"
            )
        return report

    def _advance(self, fraction: float, phase: str) -> None:
        try:
            self._observer.advance(fraction, phase)
        except Exception as error:  # it would end the process, inside the builder
            self._broken = error
            self._cancelled.set()

    def _made(self, thing: Any, problem: str) -> Any:
        if thing is None:
            raise self._failed(problem)
        return thing

    def _failed(self, problem: str, reasons: list[str] | None = None) -> ModelLoadError:
        if self._broken is not None:
            raise self._broken
        messages = reasons or self._log.errors
        title = TITLES[self._module.__name__]
        return ModelLoadError(
            f"{problem}: {readable(messages) or f'{title} does not say why'}",
            where=self._order.where,
            cure=cure([*messages, *self._log.errors], "Run with --lint-only to see what is "
                      "known about the model"),
        )


def _network_flags(module: Any) -> int:
    """Precision comes from the graph: always so from 11 on, to be asked for in 10."""
    flag = getattr(module.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    return 0 if flag is None else 1 << int(flag)


def _check_rtx_options(module: Any, options: PlanOptions) -> None:
    title = TITLES[module.__name__]
    # CURRENT is some GPU that the manifest could not name.
    known = [
        name for name in module.ComputeCapability.__members__ if name not in ("NONE", "CURRENT")
    ]
    wrong = [name for name in options.compute_capabilities if name not in known]
    if wrong:
        raise ConfigurationError(
            f"{title} does not build for {', '.join(wrong)}", where="compute_capability",
            cure=f"Use some of {', '.join(known)}, or leave it out for SM80 and later",
        )
    if options.version_compatible:
        raise ConfigurationError(
            f"plans of {title} run with their own version only", where="version_compatible",
            cure="Leave it out",
        )
    if options.hardware_compatibility != "none":
        raise ConfigurationError(
            f"plans of {title} run on every GPU of the compute capabilities that they are built "
            "for", where="hardware_compatibility",
            cure="Leave it out, or choose with --compute-capability",
        )
