"""What a lane runs a variant of a plan with: execution contexts, scratch memory, a graph."""

from collections.abc import Sequence

from trtserve.device.interface import Graph, Stream
from trtserve.engine.interface import TensorMemory
from trtserve.engine.scratch import Scratch
from trtserve.engine.tensorrt_execution import Execution, LoadedPlan, open_execution
from trtserve.engine.tensorrt_variants import Variant
from trtserve.errors import DeviceError, ExecutionFailed
from trtserve.model.tensor import Shape


class TensorRtContext:
    """Runs one variant on one lane.

    Made for one set of shapes it has one execution context, whose run can be captured; made for
    any it has one for each profile of the variant, since changing profiles is slow. All use the
    lane's scratch memory.
    """

    def __init__(
        self, plan: LoadedPlan, variant: Variant, scratch: Scratch, *, owns_scratch: bool
    ) -> None:
        self._plan = plan
        self._variant = variant
        self._scratch = scratch
        self._owns_scratch = owns_scratch
        self._size = max(1, variant.scratch)
        self._held = False
        self._executions: dict[int, Execution] = {}
        self._pinned: tuple[Shape, ...] | None = None
        self._graph: Graph | None = None
        self._places: list[TensorMemory] = []
        """Where a captured run reads and writes: inputs, then outputs."""
        self._captured: list[TensorMemory] = []

    def open(self, stream: Stream, shapes: Sequence[Shape] | None) -> None:
        """Make the execution contexts; for any shapes, or for these.

        Raises ModelLoadError, or DeviceError if the device is lost. Close it then all the same.
        """
        plan, errors = self._plan, self._plan.errors
        wanted = list(range(len(self._variant.profiles)))
        if shapes is not None:
            place = self._variant.find(shapes)
            if place is None:
                raise errors.refused(
                    f"{self._variant.spec.name} does not take the shapes {list(shapes)}",
                    "Name shapes within its profile in the model's model_warmup",
                )
            wanted = [place]
            self._pinned = tuple(shapes)
        try:
            address = self._scratch.hold(self._size)
            self._held = True
            for place in wanted:
                execution = open_execution(
                    plan, self._variant.profiles[place], stream, (address, self._size)
                )
                self._executions[place] = execution
                if self._pinned is None:
                    execution.take_largest()
                else:
                    execution.output_shapes(self._pinned)
        except DeviceError as error:
            if error.sticky:
                raise
            raise errors.refused(
                f"no memory for a context of {self._variant.spec.name}, which needs "
                f"{self._size:,} bytes of scratch memory: {error}",
                "Set fewer lanes, or build it with smaller largest shapes",
            ) from error
        except ExecutionFailed as error:
            raise errors.refused(str(error)) from error

    def output_shapes(self, inputs: Sequence[Shape]) -> list[Shape | None]:
        """The outputs' whole shapes for these whole input shapes; None: not known before."""
        shapes = tuple(inputs)
        return self._find(shapes).output_shapes(shapes)

    def enqueue(
        self,
        stream: Stream,
        inputs: Sequence[TensorMemory],
        outputs: Sequence[TensorMemory | None],
    ) -> Sequence[TensorMemory]:
        """Queue a run.

        Raises ExecutionFailed with TensorRT's own words, InvalidRequest for values that the
        profile does not take, DeviceError, and RuntimeError if the caller has mixed up shapes or
        places.
        """
        if self._graph is not None:
            if [*inputs, *outputs] != self._places:
                raise RuntimeError(
                    "a captured run was given other places than it was captured with"
                )
            self._graph.launch(stream)
            return self._captured
        shapes = tuple([memory.shape for memory in inputs])
        return self._find(shapes).run(stream, shapes, inputs, outputs)

    def capture(
        self, stream: Stream, inputs: Sequence[TensorMemory], outputs: Sequence[TensorMemory]
    ) -> None:
        """Record one run as a graph; all that was queued is done when this returns.

        Raises ExecutionFailed where the run can not be captured, DeviceError if the device fails.
        """
        self.release_graph()
        if self._pinned is None:
            raise ExecutionFailed("it was made for any shape")
        shapes = tuple([memory.shape for memory in inputs])
        execution = self._find(shapes)
        # Once as it is, with these places: what TensorRT has put off is done then.
        results = execution.run(stream, shapes, inputs, outputs)
        stream.synchronize()
        if results != list(outputs):
            raise ExecutionFailed("an output's shape or place depends on the data")
        if not execution.capturable(stream):
            raise ExecutionFailed(
                f"{self._plan.errors.title} does not let its runs be captured"
            )
        self._graph = self._record(execution, stream)
        self._places = [*inputs, *outputs]
        self._captured = list(outputs)

    def release_graph(self) -> None:
        """Run one by one again. Twice is harmless."""
        graph, self._graph = self._graph, None
        if graph is not None:
            graph.close()

    def close(self) -> None:
        """Free the execution contexts, and hold the scratch memory no longer. Twice is
        harmless."""
        self.release_graph()
        for execution in self._executions.values():
            execution.close()
        self._executions.clear()
        if self._held:
            self._held = False
            self._scratch.release(self._size)
        if self._owns_scratch:
            self._scratch.close()

    def _find(self, shapes: tuple[Shape, ...]) -> Execution:
        """The execution context for these shapes."""
        if self._pinned is not None:
            if shapes != self._pinned:
                raise RuntimeError(f"a context for {self._pinned} was given {shapes}")
            return next(iter(self._executions.values()))
        place = self._variant.find(shapes)
        if place is None:
            raise ExecutionFailed(
                f"{self._variant.spec.name} does not take the shapes {list(map(list, shapes))}"
            )
        return self._executions[place]

    def _record(self, execution: Execution, stream: Stream) -> Graph:
        """A graph of the last run. Raises ExecutionFailed, DeviceError if the device is lost."""
        errors, problem = self._plan.errors, "its run can not be captured"
        try:
            stream.begin_capture()
            try:
                queued = execution.queue(stream)
            finally:
                # Whatever happened: a stream that goes on recording would run nothing more.
                graph = stream.end_capture()
        except DeviceError as error:
            if error.sticky:
                raise
            raise ExecutionFailed(f"{errors.run(problem)} ({error})") from error
        if not queued:
            graph.close()
            raise errors.run(problem)
        return graph
