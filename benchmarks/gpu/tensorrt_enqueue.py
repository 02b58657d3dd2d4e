"""What the adapter for TensorRT adds to each run: microseconds of Python for an enqueue.

    python -m benchmarks.gpu.tensorrt_enqueue [--device cuda:0] [--rounds 10] [--json FILE]

TensorRT itself is not needed: a stand-in (trtserve/testing/tensorrt.py) is called in its place,
whose runs launch null kernels, two for each output, or nothing at all on the device `cpu`. `all`
is a whole call of Context.enqueue; `adapter` the same call where all calls of the stand-in return
at once what they did before, without their work: what trtserve adds. Captured runs never get as
far as the stand-in, so there the two are the same.

Both are measured in blocks that take turns; the figures are the median of the blocks, and in
brackets the quartiles.
"""

import argparse
import json
import statistics
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import Any, NamedTuple

from trtserve.cli.output import print_table
from trtserve.clock import now_ns
from trtserve.device.cuda import CudaDevice
from trtserve.device.interface import Buffer, Device
from trtserve.engine.interface import Context, TensorMemory
from trtserve.engine.scratch import Scratch
from trtserve.engine.tensorrt import TensorRtRuntime
from trtserve.engine.tensorrt_plan import PlanRules
from trtserve.testing.clock import FakeClock
from trtserve.testing.device import FakeDevice
from trtserve.testing.tensorrt import HostMachine, Machine, make_module, methods_of
from trtserve.testing.tensorrt_plan import StandInProfile, StandInTensor, write_plan

WIDTH = 1024
SIZES = (8, 4)
ROWS = 32
Places = tuple[list[TensorMemory], list[TensorMemory]]
"""Inputs and outputs."""

EVERY = 32
"""Runs between two waits, which are not measured: a full queue would be."""

BLOCKS = 25

_SOURCE = 'extern "C" __global__ void nothing() {}'


class Spread(NamedTuple):
    """Of the blocks: the median and the quartiles, in microseconds."""

    us: float
    low_us: float
    high_us: float

    def __str__(self) -> str:
        return f"{self.us:.2f} ({self.low_us:.2f} .. {self.high_us:.2f})"


@dataclass(frozen=True, slots=True)
class Cost:
    """One case. `calls` are made of the runtime's context in a run; `all_us` is a whole run,
    `adapter_us` one whose calls return at once."""

    tensors: int
    case: str
    calls: float
    all_us: Spread
    adapter_us: Spread


class Nothing(HostMachine):
    """A machine without work."""

    def double(self, stream: int, target: int, source: int, count: int, datatype: str) -> None:
        """Nothing."""

    def capturing(self, stream: int) -> bool:
        """Recorded or not, there is no work."""
        return False


class NullKernels:
    """A machine of a GPU that launches a kernel which does nothing."""

    def __init__(self, device: int) -> None:
        from cuda import core
        from cuda.bindings import runtime

        gpu = core.Device(device)
        options = core.ProgramOptions(arch=f"sm_{gpu.arch}")
        compiled = core.Program(_SOURCE, "c++", options).compile("cubin")
        self._kernel = compiled.get_kernel("nothing")
        self._config = core.LaunchConfig(grid=1, block=1)
        self._core, self._runtime = core, runtime
        self._streams: dict[int, Any] = {}

    def double(self, stream: int, target: int, source: int, count: int, datatype: str) -> None:
        """Launch it."""
        known = self._streams.get(stream)
        if known is None:
            known = self._streams[stream] = self._core.Stream.from_handle(stream)
        self._core.launch(known, self._config, self._kernel)

    def read(self, stream: int, address: int, size: int) -> bytes:
        """No plan here asks for that."""
        raise NotImplementedError

    def capturing(self, stream: int) -> bool:
        """What matters to the stand-in was done before: do not spend time on it."""
        return False


class Rig:
    """A lane, and a plan of so many inputs and as many outputs."""

    def __init__(self, device: Device, machine: Machine, tensors: int, folder: Path) -> None:
        self.device = device
        self.stream = device.create_stream()
        self.scratch = Scratch(device)
        self.tensors = tensors
        self.buffers: list[Buffer] = []
        self.made: list[Any] = []
        made = self.made
        module = make_module(machine)
        base = module.IExecutionContext

        class Noted(base):  # type: ignore[misc, valid-type]  # made at run time
            def __init__(self, engine: Any) -> None:
                super().__init__(engine)
                made.append(self)

        module.IExecutionContext = Noted
        path = str(folder / f"{tensors}.plan")
        shape, limits = (-1, WIDTH), ((1, WIDTH), (8, WIDTH), (ROWS, WIDTH))
        write_plan(
            path,
            inputs=tuple(StandInTensor(name=f"x{n}", shape=shape) for n in range(tensors)),
            outputs=tuple(StandInTensor(name=f"y{n}", shape=shape) for n in range(tensors)),
            profiles=(StandInProfile({f"x{n}": limits for n in range(tensors)}),),
        )
        self.engine = TensorRtRuntime(module, PlanRules(writable=True)).load(path, device, {})

    def places(self, rows: int) -> Places:
        """Inputs and outputs of so many rows, somewhere new."""
        size, shape = rows * WIDTH * 4, (rows, WIDTH)
        buffers = [self.device.allocate(size) for _ in range(2 * self.tensors)]
        self.buffers += buffers
        found = [TensorMemory(buffer.address, size, shape) for buffer in buffers]
        return found[: self.tensors], found[self.tensors :]

    def context(self, rows: int = 0) -> Context:
        """A context; with rows, for these only."""
        shapes = [(rows, WIDTH)] * self.tensors if rows else None
        return self.engine.create_context(0, self.stream, shapes, self.scratch)


def measure(rig: Rig, name: str, context: Context, places: Sequence[Places], rounds: int) -> Cost:
    """The cost of runs with these places in turn."""
    # As a lane gives them: never the same objects twice.
    runs: list[Callable[[], object]] = [
        partial(context.enqueue, rig.stream, *([replace(each) for each in half] for half in pair))
        for pair in (*places, *places)
    ]
    for run in runs:
        run()
    at_once = answered_at_once(rig.made[-1], runs)
    every, adapter = [], []
    for _ in range(BLOCKS):
        # They take turns, so that a machine which slows down does so to both.
        every.append(block_us(rig, runs, rounds))
        with at_once:
            adapter.append(block_us(rig, runs, rounds))
    return Cost(rig.tensors, name, at_once.calls / len(runs), spread(every), spread(adapter))


class AnsweredAtOnce:
    """While entered, a context's methods return at once what they did when it was made, in that
    order: so each entry has to go through all runs, once or several times. `calls` is how many
    there are in all of them.

    The state of the real context stays that of the last run, which is what the adapter believes.
    """

    def __init__(self, context: Any, calls: int, answers: dict[str, list[Any]]) -> None:
        self.calls = calls
        self._context = context
        self._answers = answers

    def __enter__(self) -> None:
        for name, answers in self._answers.items():
            following = cycle(answers).__next__
            setattr(self._context, name, partial(_follow, following))

    def __exit__(self, *_: object) -> None:
        for name in self._answers:
            delattr(self._context, name)


def _follow(following: Callable[[], Any], *_: Any) -> Any:
    return following()


def answered_at_once(context: Any, runs: Sequence[Callable[[], object]]) -> AnsweredAtOnce:
    """A context's answers to all these runs, to be given again without its work."""
    answers: dict[str, list[Any]] = {}
    names = methods_of(type(context))

    def noted(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def note(*arguments: Any) -> Any:
            answer = real(*arguments)
            answers.setdefault(name, []).append(answer)
            return answer

        return note

    for name in names:
        setattr(context, name, noted(name, getattr(context, name)))
    for run in runs:
        run()
    for name in names:
        delattr(context, name)
    return AnsweredAtOnce(context, sum(map(len, answers.values())), answers)


def block_us(rig: Rig, runs: Sequence[Callable[[], object]], rounds: int) -> float:
    """What one of them takes, in the middle of so many goes through all of them as fit into a
    queue. Microseconds."""
    times = []
    goes = EVERY // len(runs)
    for _ in range(rounds):
        started = now_ns()
        for _ in range(goes):
            for run in runs:
                run()
        times.append(now_ns() - started)
        rig.stream.synchronize()
    return statistics.median(times) / (goes * len(runs)) / 1000


def spread(blocks: Sequence[float]) -> Spread:
    """The median of blocks, and the quartiles."""
    low, middle, high = statistics.quantiles(blocks, n=4)
    return Spread(middle, low, high)


def costs(rig: Rig, rounds: int) -> Iterator[Cost]:
    """All cases, for one number of tensors."""
    one, other, small = rig.places(8), rig.places(8), rig.places(4)
    context = rig.context(rows=8)
    yield measure(rig, "same shapes and places", context, [one], rounds)
    yield measure(rig, "two places in turn", context, [one, other], rounds)
    yield measure(rig, "two shapes in turn", rig.context(), [one, small], rounds)
    captured = rig.context(rows=8)
    captured.enqueue(rig.stream, *one)
    captured.capture(rig.stream, *one)
    yield measure(rig, "captured", captured, [one], rounds)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda:0", help="cuda:N, or cpu")
    parser.add_argument(
        "--rounds", type=int, default=10, help=f"of {EVERY} runs, in each of {BLOCKS} blocks"
    )
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    device: Device
    machine: Machine
    if options.device == "cpu":
        device = fake = FakeDevice(FakeClock())
        machine = Nothing(fake)
    else:
        index = int(options.device.partition(":")[2])
        device, machine = CudaDevice(index), NullKernels(index)
    found: list[Cost] = []
    with tempfile.TemporaryDirectory() as folder:
        for tensors in (1, 4):
            found += costs(Rig(device, machine, tensors, Path(folder)), options.rounds)
    print_table(
        ("inputs and outputs", "runs", "calls a run", "all us", "adapter us"),
        [
            (f"{cost.tensors} and {cost.tensors}", cost.case, f"{cost.calls:g}", str(cost.all_us),
             str(cost.adapter_us))
            for cost in found
        ],
    )
    if options.json:
        options.json.write_text(json.dumps([asdict(cost) for cost in found], indent=1))


if __name__ == "__main__":
    main()
