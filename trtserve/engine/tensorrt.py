"""TensorRT: plans, on CUDA devices. One code for its three Python modules.

`tensorrt` (11, and 10 from 10.1), `tensorrt_lean`, which only runs plans, and `tensorrt_rtx`, with
plans of its own. Nothing of them is imported before a plan is loaded on a device that works: the
lean runtime crashes without a driver.
"""

import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from trtserve.device.interface import Device
from trtserve.engine.interface import Runtime
from trtserve.engine.tensorrt_engine import ScratchMark, TensorRtEngine
from trtserve.engine.tensorrt_errors import PlanErrors, message_log
from trtserve.engine.tensorrt_installed import installed_modules
from trtserve.engine.tensorrt_memory import CURE, PlanNeeds
from trtserve.engine.tensorrt_plan import (
    RTX,
    PlanRules,
    check_plan,
    family,
    opened,
    rebuild_cure,
)
from trtserve.errors import ModelLoadError
from trtserve.model.plan_fit import TITLES
from trtserve.model.plan_manifest import PlanManifest, read_manifest

SUFFIXES = (".plan", ".engine")

_OLDEST = {"tensorrt": (10, 1), "tensorrt_lean": (10, 1), RTX: (1, 3)}
"""Older ones lack calls that are used here."""

_PACKAGES = {"tensorrt": "trtserve[tensorrt]", RTX: "trtserve[rtx]"}

_HEAD_BYTES = 64


def find_runtimes(rules: PlanRules | None = None) -> list[Runtime]:
    """A runtime for plans, if any of the modules is installed. Imports none of them."""
    installed = installed_modules()
    return [PlanRuntime(installed, rules or PlanRules())] if installed else []


class PlanRuntime:
    """Loads plans with the module that they were built for. `names` are the installed ones."""

    suffixes = SUFFIXES

    def __init__(self, names: Sequence[str], rules: PlanRules) -> None:
        self._names = tuple(names)
        self._rules = rules
        self._runtimes: dict[str, TensorRtRuntime] = {}

    def load(self, path: str, device: Device, options: Mapping[str, str]) -> TensorRtEngine:
        """Load one plan. Raises ModelLoadError that names the file, the cause and the cure."""
        _check_device(path, device)
        with opened(path) as data:
            wanted = family(data[:_HEAD_BYTES], read_manifest(Path(path)))
        name = choose_module(wanted, self._names)
        if name is None:
            raise ModelLoadError(
                f"it is a plan of {TITLES.get(wanted, wanted)}, which is not installed",
                where=path, cure=f"pip install '{_PACKAGES.get(wanted, wanted)}'",
            )
        if name not in self._runtimes:
            self._runtimes[name] = TensorRtRuntime(_import(name, path), self._rules)
        return self._runtimes[name].load(path, device, options)


class TensorRtRuntime:
    """Loads plans with one module."""

    suffixes = SUFFIXES

    def __init__(self, module: Any, rules: PlanRules | None = None) -> None:
        self._module = module
        self._rules = rules or PlanRules()
        name = str(module.__name__)
        self._title = f"{TITLES.get(name, name)} {module.__version__}"
        self._log = message_log(module, self._title)
        self._runtime: Any = None
        self._mark = ScratchMark()

    def load(self, path: str, device: Device, options: Mapping[str, str]) -> TensorRtEngine:
        """Load one plan; no options are known.

        Raises ModelLoadError that names the file, the cause and the cure.
        """
        _check_device(path, device)
        # Constructing a runtime without a driver, or without a device, may crash the process.
        device.enter_thread()
        memory = device.memory()
        module = self._module
        with opened(path) as data:
            manifest = read_manifest(Path(path))
            check_plan(
                path, data, manifest, self._rules, module.__name__, module.__version__, device
            )
            errors = PlanErrors(
                path, self._title, device, self._log, rebuild_cure(path, manifest)
            )
            weights = len(data)
            if memory is not None:
                needs = PlanNeeds(
                    weights, device.default_lanes, _scratch(manifest), self._mark.size, 0
                )
                problem = needs.lacking(device.name, memory[0], loaded=False)
                if problem:
                    raise errors.refused(problem, CURE)
            engine = self._deserialize(data, errors)
        return TensorRtEngine(module, engine, errors, device, weights, self._mark)

    def _deserialize(self, data: Any, errors: PlanErrors) -> Any:
        self._log.take()
        if self._runtime is None:
            self._runtime = self._module.Runtime(self._log)
        self._runtime.engine_host_code_allowed = self._rules.host_code
        engine = self._runtime.deserialize_cuda_engine(data)
        if engine is None:
            raise errors.load("it does not load")
        return engine


def choose_module(wanted: str, installed: Sequence[str]) -> str | None:
    """The installed module that runs plans which `wanted` has built; None: there is none."""
    rtx = wanted == RTX
    return next((name for name in installed if (name == RTX) == rtx), None)


def _scratch(manifest: PlanManifest | None) -> int:
    """What the plan's contexts need, as far as its manifest tells."""
    if manifest is None or manifest.engine is None:
        return 0
    return max(manifest.engine.scratch_bytes, default=0)


def _check_device(path: str, device: Device) -> None:
    if device.unified:
        raise ModelLoadError(
            f"plans run on GPUs only, and this is {device.name}", where=path,
            cure="Serve it with --devices cuda:0, or put the .onnx file in its place",
        )


def _import(name: str, path: str) -> Any:
    try:
        module = importlib.import_module(name)
    except (ImportError, OSError) as error:
        raise ModelLoadError(
            f"{name} is installed and does not load: {error}", where=path,
            cure="Install it again; it needs the libraries that its own packages bring",
        ) from error
    numbers = tuple(int(part) for part in module.__version__.split(".")[:2])
    if numbers < _OLDEST[name]:
        raise ModelLoadError(
            f"{TITLES[name]} {module.__version__} is too old", where=path,
            cure=f"Install {'.'.join(map(str, _OLDEST[name]))} or later",
        )
    return module
