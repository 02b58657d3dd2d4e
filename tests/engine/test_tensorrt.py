import importlib.util

import pytest

from tests.engine.plan_manifests import write_manifest
from tests.engine.tensorrt_stand import ANYWHERE, Stand
from trtserve.device.host import HostDevice
from trtserve.engine.interface import Engine, Runtime
from trtserve.engine.tensorrt import (
    SUFFIXES,
    PlanRuntime,
    choose_module,
    find_runtimes,
)
from trtserve.engine.tensorrt_installed import MODULES
from trtserve.errors import DeviceError, ModelLoadError
from trtserve.testing.device import FakeDevice
from trtserve.testing.tensorrt_plan import make_plan


@pytest.fixture
def stand(tmp_path) -> Stand:
    return Stand(tmp_path)


def test_it_is_a_runtime(stand):
    make_plan(stand.path)
    runtime: Runtime = stand.runtime
    assert runtime.suffixes == SUFFIXES == (".plan", ".engine")
    engine: Engine = stand.load()
    assert (engine.platform, engine.pins, engine.captures) == ("tensorrt_plan", True, True)
    engine.close()
    engine.close()
    with pytest.raises(IndexError, match="open plan"):
        engine.create_context(0, stand.stream)


def test_all_plans_share_one_runtime_of_the_module(stand):
    make_plan(stand.path)
    stand.load()
    stand.load()
    assert stand.module.runtimes == 1


def test_nothing_is_constructed_without_a_device(stand):
    make_plan(stand.path)
    with pytest.raises(ModelLoadError, match="plans run on GPUs only, and this is cpu") as caught:
        stand.runtime.load(stand.path, HostDevice(), {})
    assert "--devices cuda:0" in caught.value.cure
    assert stand.module.runtimes == 0


def test_nothing_is_constructed_on_a_device_that_does_not_answer(stand):
    class Lost(FakeDevice):
        def memory(self) -> tuple[int, int] | None:
            raise DeviceError("lost", sticky=True)

    make_plan(stand.path)
    lost = Lost(stand.device.clock)
    with pytest.raises(DeviceError, match="lost"):
        stand.runtime.load(stand.path, lost, {})
    assert lost.threads
    assert stand.module.runtimes == 0


@pytest.mark.parametrize("data", [b"", b"garbage"])
def test_a_file_that_is_no_plan(stand, data):
    with open(stand.path, "wb") as file:
        file.write(data)
    with pytest.raises(ModelLoadError) as caught:
        stand.load()
    assert caught.value.where == stand.path
    expected = "the file is empty" if not data else "not a plan of this runtime"
    assert expected in caught.value.problem


def test_a_file_that_is_not_there(stand):
    with pytest.raises(ModelLoadError, match="can not be read: No such file"):
        stand.load()


@pytest.mark.parametrize(
    ("options", "problem"),
    [({"version": "10.3.0"}, "built with another version: TensorRT 11.4.0.106 says: .*10.3.0"),
     ({"gpu": "8.6"}, "built for another GPU: .*expecting compute 9.0 got compute 8.6"),
     ({"host_code": True}, "carries code for this machine's processor")],
)
def test_a_plan_for_elsewhere_without_a_manifest(stand, options, problem):
    make_plan(stand.path, **options)
    with pytest.raises(ModelLoadError, match=problem) as caught:
        stand.load()
    wanted = "allow_engine_host_code" if "host_code" in options else "trtserve build MODEL.onnx"
    assert wanted in caught.value.cure


def test_the_cure_is_the_exact_command_where_a_manifest_has_it(stand):
    make_plan(stand.path)
    with open(stand.path, "r+b") as file:
        file.truncate(30)
    write_manifest(stand.path)
    with pytest.raises(ModelLoadError, match="only a part of one") as caught:
        stand.load()
    assert caught.value.cure.startswith("Build it again here: trtserve build net.onnx --reposi")
    assert "--batch 1,8" in caught.value.cure


def test_a_context_that_can_not_be_made(stand):
    make_plan(stand.path)
    engine = stand.load()
    stand.module.fail("create_execution_context", "OutOfMemory (no extra memory for layer 3)")
    stand.device.total_bytes = 1000
    with pytest.raises(
        ModelLoadError,
        match=r"fake has too little memory for it; 872 of 1,000 bytes are free: .*layer 3",
    ):
        engine.create_context(0, stand.stream, None, stand.scratch)
    assert stand.device.allocated_bytes == 0


@pytest.mark.parametrize("call", ["set_optimization_profile_async", "create_execution_context"])
def test_what_fails_while_it_is_loaded(stand, call):
    make_plan(stand.path)
    stand.module.fail(call, "Error Code 1: something deep (In f at /_src/g.cpp:1)")
    with pytest.raises(ModelLoadError, match=r"says: Error Code 1: something deep"):
        stand.load()


# --- which module ------------------------------------------------------------------------


def test_the_installed_modules_are_found():
    found = find_runtimes()
    installed = [name for name in MODULES if importlib.util.find_spec(name) is not None]
    assert len(found) == bool(installed)


@pytest.mark.parametrize(
    ("wanted", "installed", "chosen"),
    [("tensorrt", MODULES, "tensorrt"),
     ("tensorrt", ("tensorrt_lean", "tensorrt_rtx"), "tensorrt_lean"),
     ("tensorrt", ("tensorrt_rtx",), None),
     ("tensorrt_rtx", MODULES, "tensorrt_rtx"),
     ("tensorrt_rtx", ("tensorrt",), None)],
)
def test_the_module_for_a_plan(wanted, installed, chosen):
    assert choose_module(wanted, installed) == chosen


@pytest.mark.parametrize("with_manifest", [True, False])
@pytest.mark.parametrize(
    ("module", "others", "cure"),
    [("tensorrt_rtx", ("tensorrt", "tensorrt_lean"), "trtserve[rtx]"),
     ("tensorrt", ("tensorrt_rtx",), "trtserve[tensorrt]")],
)
def test_a_plan_whose_module_is_missing(stand, module, others, cure, with_manifest):
    make_plan(stand.path, module=module)
    if with_manifest:
        write_manifest(stand.path, module=module)
    runtime = PlanRuntime(others, ANYWHERE)
    with pytest.raises(ModelLoadError, match="which is not installed") as caught:
        runtime.load(stand.path, stand.device, {})
    assert cure in caught.value.cure


def test_plans_are_not_opened_on_the_cpu(stand):
    with pytest.raises(ModelLoadError, match="GPUs only"):
        PlanRuntime(MODULES, ANYWHERE).load(stand.path, HostDevice(), {})


def test_a_real_module_is_imported_when_it_is_wanted(stand):
    pytest.importorskip("tensorrt_rtx")
    make_plan(stand.path, module="tensorrt_rtx")
    (runtime,) = find_runtimes(ANYWHERE)
    with pytest.raises(ModelLoadError, match=r"TensorRT-RTX 1\.\d.* says: "):
        runtime.load(stand.path, stand.device, {})
