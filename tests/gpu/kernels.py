"""Kernels that tests launch, compiled when one is first wanted.

`stream` is a stream's handle, `target` and `source` are addresses. The calling thread has entered
its device.
"""

from functools import cache
from typing import Any

SOURCE = r"""
extern "C" __global__ void store(int *place) { *place = 1; }

extern "C" __global__ void spin(unsigned long long nanoseconds) {
    unsigned long long start, now;
    asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(start));
    do {
        asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(now));
    } while (now - start < nanoseconds);
}

extern "C" __global__ void scale(float *target, const float *source, unsigned long long count) {
    unsigned long long index = blockIdx.x * (unsigned long long)blockDim.x + threadIdx.x;
    if (index < count) target[index] = 2 * source[index];
}
"""

THREADS = 256


def illegal_access(stream: int) -> None:
    """Write to address 0: a sticky error, which ends the process's use of the device."""
    # The compiler does not see the address: it would leave out a store that it knows is wrong.
    _launch(stream, "store", 1, 0)


def spin(stream: int, milliseconds: float) -> None:
    """Keep one multiprocessor, and the stream, busy for a while."""
    _launch(stream, "spin", 1, round(milliseconds * 1e6))


def scale(stream: int, target: int, source: int, count: int) -> None:
    """Twice the source's floats to the target."""
    blocks = -(-count // THREADS)
    _launch(stream, "scale", blocks, target, source, count)


def _launch(stream: int, name: str, blocks: int, *arguments: int) -> None:
    """Launch a kernel. An int goes to it in eight bytes, which is what all of them take."""
    from cuda import core

    threads = 1 if name != "scale" else THREADS
    core.launch(
        core.Stream.from_handle(stream),
        core.LaunchConfig(grid=blocks, block=threads),
        _kernel(core.Device().device_id, name),
        *arguments,
    )


@cache
def _kernel(device: int, name: str) -> Any:
    return _compiled(device).get_kernel(name)


@cache
def _compiled(device: int) -> Any:
    from cuda import core

    options = core.ProgramOptions(arch=f"sm_{core.Device(device).arch}")
    return core.Program(SOURCE, "c++", options).compile("cubin")
