"""Which CUDA devices this machine has, or why none can be used.

    python -m trtserve.device.probe

prints it as JSON. A process of its own asks, since the supervisor must not start CUDA: a process
that has done so can not fork safely, and a broken driver may crash or hang it.
"""

import ctypes.util
import importlib.util
import os
import subprocess
import sys
from collections.abc import Sequence

import msgspec

from trtserve.device.cuda_errors import NOT_INSTALLED, unusable, version

_DEVICE_NODES = ("/dev/nvidiactl", "/dev/dxg", "/dev/nvmap")
"""What the driver's kernel half shows: on Linux, on Windows's Linux, on boards with one chip."""

_COMMAND = (sys.executable, "-P", "-m", "trtserve.device.probe")


class CudaFacts(msgspec.Struct, frozen=True):
    """One device, as CUDA numbers those that the process may see. `numa_node` -1: none."""

    index: int
    name: str
    compute_capability: str
    memory_bytes: int
    numa_node: int
    pci: str


class Probe(msgspec.Struct, frozen=True):
    """What was found. `problem` says why no device can be used, and the cure; empty if they can.

    The versions are those of CUDA: the newest that the driver supports, and the packages'.
    """

    devices: tuple[CudaFacts, ...] = ()
    driver_version: str = ""
    runtime_version: str = ""
    problem: str = ""


def probe() -> Probe:
    """Ask CUDA, in this process, which it starts here."""
    try:
        from cuda.bindings import runtime
    except ImportError as error:
        return Probe(problem=NOT_INSTALLED.format(cause=error))
    _, driver = runtime.cudaDriverGetVersion()
    _, packages = runtime.cudaRuntimeGetVersion()
    versions = version(driver) if driver else "", version(packages)
    failed, count = runtime.cudaGetDeviceCount()
    problem = unusable(int(failed), failed.name, driver)
    devices = []
    for index in range(0 if problem else count):
        failed, facts = runtime.cudaGetDeviceProperties(index)
        if failed:
            problem = f"cuda:{index} says nothing about itself: {failed.name}"
            break
        devices.append(CudaFacts(
            index, facts.name.decode(), f"{facts.major}.{facts.minor}", facts.totalGlobalMem,
            facts.hostNumaId,
            f"{facts.pciDomainID:04x}:{facts.pciBusID:02x}:{facts.pciDeviceID:02x}.0",
        ))
    return Probe(() if problem else tuple(devices), *versions, problem)


def probe_in_child(timeout: float = 60.0) -> Probe:
    """The same, from a child process; from none where it is plain that there is no CUDA.

    Starting CUDA on a machine with many devices takes seconds.
    """
    problem = plainly_missing()
    return Probe(problem=problem) if problem else ask(_COMMAND, timeout)


def plainly_missing(
    package: str = "cuda.bindings", library: str = "cuda", nodes: Sequence[str] = _DEVICE_NODES
) -> str:
    """Why there can be no CUDA here, as far as files tell; empty: there may be."""
    try:
        found = importlib.util.find_spec(package) is not None
    except ModuleNotFoundError:  # the package around it is missing too
        found = False
    if not found:
        return NOT_INSTALLED.format(cause=f"no module named {package}")
    if any(os.path.exists(node) for node in nodes) or ctypes.util.find_library(library):
        return ""
    return unusable(0, "", 0)


def ask(command: Sequence[str], timeout: float) -> Probe:
    """What the child says; how it failed is a problem like others."""
    try:
        child = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout, check=False
        )
    except subprocess.TimeoutExpired:
        return Probe(problem=(
            f"CUDA did not answer within {timeout:g} s. Check that nvidia-smi answers here"
        ))
    except OSError as error:
        return Probe(problem=f"the process that asks for CUDA devices does not start: {error}")
    try:
        # Libraries may print before; the answer is the last line.
        return msgspec.json.decode(child.stdout.splitlines()[-1], type=Probe)
    except (IndexError, msgspec.DecodeError):
        said = child.stderr.decode(errors="replace").strip().splitlines()
        return Probe(problem=(
            f"asking for CUDA devices failed (exit code {child.returncode})"
            f"{': ' + said[-1] if said else ''}. Check that nvidia-smi works here"
        ))


if __name__ == "__main__":
    sys.stdout.write(msgspec.json.encode(probe()).decode() + "\n")
