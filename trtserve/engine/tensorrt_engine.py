"""A loaded plan: its weights, once for all lanes, and how contexts are made for it."""

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from trtserve.device.interface import Device, Stream
from trtserve.engine.scratch import Scratch
from trtserve.engine.tensorrt_context import TensorRtContext
from trtserve.engine.tensorrt_errors import PlanErrors
from trtserve.engine.tensorrt_execution import LoadedPlan, open_execution
from trtserve.engine.tensorrt_memory import CURE, PlanNeeds
from trtserve.engine.tensorrt_signature import read_signature
from trtserve.engine.tensorrt_variants import without_batches
from trtserve.errors import DeviceError, ExecutionFailed, ModelLoadError
from trtserve.model.spec import VariantSpec
from trtserve.model.tensor import Shape

log = logging.getLogger(__name__)


class ScratchMark:
    """How much scratch memory the lanes have for the plans of one runtime: more is never needed
    than the largest of them does."""

    def __init__(self) -> None:
        self.size = 0


class TensorRtEngine:
    """One plan. `weights` is the file's size, which is about what its weights take.

    Raises ModelLoadError for one that can not be served, or does not fit.
    """

    platform = "tensorrt_plan"

    def __init__(
        self, module: Any, engine: Any, errors: PlanErrors, device: Device, weights: int,
        mark: ScratchMark,
    ) -> None:
        self._mark = mark
        signature = read_signature(module, engine, errors)
        strategy = _strategy(module, engine, errors)
        plan = LoadedPlan(module, engine, strategy, signature, errors, device)
        self._plan: LoadedPlan | None = plan
        found = _measure(plan)
        self._variants = signature.variants
        self.warnings = tuple(map(str, signature.warnings))
        if found.straying and self._variants[0].spec.max_batch:
            self._variants = tuple(map(without_batches, self._variants))
            self.warnings += (
                f"output '{found.straying}' of {os.path.basename(errors.path)} has other rows "
                "than the inputs, so requests are not batched",
            )
        for warning in self.warnings:
            log.warning("%s", warning)
        self.variants: tuple[VariantSpec, ...] = tuple(
            variant.spec for variant in self._variants
        )
        self.scratch_bytes: tuple[int, ...] = tuple(
            variant.scratch for variant in self._variants
        )
        """What a context of each variant needs while it runs. The contexts of a lane share it:
        each lane takes the largest of all that it serves, and not their sum."""
        # What graphs and padding are for: shapes that are known, and places that stay.
        self.pins = self.captures = not (found.decided_by_data or signature.reads_host)
        self.needs = PlanNeeds(
            weights, device.default_lanes, max(self.scratch_bytes), mark.size, found.tensors
        )
        memory = device.memory()
        if memory is not None:
            problem = self.needs.lacking(device.name, memory[0], loaded=True)
            if problem:
                raise errors.refused(problem, CURE)

    def create_context(
        self, variant: int, stream: Stream, shapes: Sequence[Shape] | None = None,
        scratch: Scratch | None = None,
    ) -> TensorRtContext:
        """A context for the variant of that index; see Engine.

        Raises ModelLoadError, DeviceError if the device is lost.
        """
        plan = self._plan
        if plan is None or not 0 <= variant < len(self._variants):
            raise IndexError(f"no variant {variant} of an open plan")
        context = TensorRtContext(
            plan, self._variants[variant], scratch or Scratch(plan.device),
            owns_scratch=scratch is None,
        )
        try:
            context.open(stream, shapes)
        except BaseException:
            context.close()
            raise
        self._mark.size = max(self._mark.size, self._variants[variant].scratch)
        return context

    def close(self) -> None:
        """Free the weights. Twice is harmless."""
        self._plan = None


def _strategy(module: Any, engine: Any, errors: PlanErrors) -> Any:
    """What contexts are made with, so that they use memory that they are given.

    TensorRT-RTX compiles kernels here: at once for the shapes that are set, since a captured
    graph would keep the slower ones that stand in meanwhile; and for all contexts together.
    """
    ours = module.ExecutionContextAllocationStrategy.USER_MANAGED
    specialization = getattr(module, "DynamicShapesKernelSpecializationStrategy", None)
    if specialization is None:
        return ours
    config = engine.create_runtime_config()
    if config is None:
        raise errors.load("its runtime can not be configured")
    config.set_execution_context_allocation_strategy(ours)
    config.dynamic_shapes_kernel_specialization_strategy = specialization.EAGER
    config.set_runtime_cache(config.create_runtime_cache())
    return config


@dataclass(frozen=True, slots=True)
class _Measures:
    """What the largest runs are like: the bytes of their inputs and outputs, whether the data
    decide any output's shape, and an output that does not keep the inputs' rows."""

    tensors: int
    decided_by_data: bool
    straying: str | None


def _measure(plan: LoadedPlan) -> _Measures:
    """Look at them, in contexts that never run. Raises ModelLoadError."""
    decided, straying, most = False, None, 0
    stream = plan.device.create_stream()
    try:
        for variant in plan.signature.variants:
            execution = open_execution(plan, variant.profiles[-1], stream, None)
            try:
                most = max(most, execution.take_largest())
                decided = decided or execution.decided_by_data
                straying = straying or execution.straying()
            finally:
                execution.close()
        stream.synchronize()
    except ExecutionFailed as error:
        raise plan.errors.refused(str(error)) from error
    except DeviceError as error:
        if error.sticky:
            raise
        raise ModelLoadError(str(error), where=plan.errors.path, cure=CURE) from error
    finally:
        stream.close()
    return _Measures(most, decided, straying)
