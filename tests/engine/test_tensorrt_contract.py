"""Every call that the adapter makes of TensorRT, against the signatures of the real bindings.

The adapter runs with a stand-in that notes its calls; each is checked against the docstrings of
the modules that are installed. What the sources of the adapter name, and did not call meanwhile,
is found too: then something here has to run it.
"""

import ast
import importlib
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import trtserve.engine
from tests.engine.binding_signatures import signatures
from tests.engine.tensorrt_stand import Stand, rows
from trtserve.testing.tensorrt import Call, HostMachine, make_module, methods_of
from trtserve.testing.tensorrt_engine import EngineBase
from trtserve.testing.tensorrt_plan import (
    MinOptMax,
    StandInProfile,
    StandInTensor,
    make_plan,
    write_plan,
)

SOURCES = sorted(Path(trtserve.engine.__file__).parent.glob("tensorrt*.py"))

CLASSES = ("Runtime", "ICudaEngine", "IExecutionContext", "IRuntimeConfig", "ILogger",
           "IOutputAllocator")

OURS_TO_WRITE = {"log", "reallocate_output", "reallocate_output_async", "notify_shape"}
"""What TensorRT calls, and users write."""

LATER = {"get_aliased_input_tensor"}
"""What older versions lack, and the adapter looks for first."""


@pytest.fixture(params=["tensorrt", "tensorrt_lean", "tensorrt_rtx"])
def real(request) -> Any:
    """A module of TensorRT."""
    try:
        return importlib.import_module(request.param)
    except (ImportError, OSError) as error:
        pytest.skip(f"{request.param} is not installed: {error}")


def calls(folder: Path, name: str) -> list[Call]:
    """All kinds of calls that the adapter makes, with plans of all kinds."""
    stand = Stand(folder, name, recording=True)
    make_plan(stand.path, module=name, verbosity="DETAILED")
    context = stand.context(stand.load(), (2, 4))
    source, target = stand.put(rows(2)), stand.place((2, 4))
    context.enqueue(stand.stream, [source], [target])
    context.capture(stand.stream, [source], [target])
    context.close()
    x = StandInTensor(name="x", shape=(-1, 4))
    shapes: dict[str, MinOptMax] = {"x": ((1, 4), (4, 4), (8, 4))}
    write_plan(
        stand.path, inputs=(x,), outputs=(StandInTensor(name="y", shape=(-1, 4), rule="data"),),
        profiles=(StandInProfile(shapes),), module=name,
    )
    stand.run(stand.context(stand.load()), rows(2))
    write_plan(
        stand.path, module=name,
        inputs=(x, StandInTensor(name="s", shape=(2,), datatype="INT64", on_host=True)),
        outputs=(StandInTensor(name="y", shape=(-1, -1), rule="values"),),
        profiles=(StandInProfile(shapes, {"s": ((1, 1), (2, 2), (4, 8))}),),
    )
    stand.run(stand.context(stand.load()), rows(2), np.array([2, 4]))
    with pytest.raises(Exception, match="laid out"):
        _load_vectors(stand, name)
    return stand.module.calls


def _load_vectors(stand: Stand, name: str) -> None:
    x = StandInTensor(name="x", shape=(-1, 4), vector=1)
    write_plan(stand.path, inputs=(x,), outputs=(), module=name,
               profiles=(StandInProfile({"x": ((1, 4), (4, 4), (8, 4))}),))
    stand.load()


def test_every_call_fits_the_real_signatures(tmp_path, real):
    checked = set()
    for call in calls(tmp_path, real.__name__):
        if call.owner not in CLASSES or call.method in OURS_TO_WRITE:
            continue
        cls = getattr(real, call.owner)
        if call.method == "__init__" and call.owner in ("ICudaEngine", "IExecutionContext",
                                                        "IRuntimeConfig"):
            continue  # only TensorRT makes them
        assert hasattr(cls, call.method) or call.method in LATER, call
        if hasattr(cls, call.method):
            forms = signatures(getattr(cls, call.method))
            assert forms, f"{call.owner}.{call.method} has no signature that can be read"
            assert any(form.takes(call.arguments) for form in forms), (call, forms)
            checked.add((call.owner, call.method))
    assert len(checked) > 20


def test_every_call_in_the_sources_was_made(tmp_path):
    known = {
        name for cls in CLASSES for kind in ("tensorrt", "tensorrt_rtx")
        for name in methods_of(getattr(make_module(_machine(tmp_path), kind), cls))
    }
    named = {
        node.attr if isinstance(node, ast.Attribute) else node.value
        for path in SOURCES for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute)
        or (isinstance(node, ast.Constant) and isinstance(node.value, str))
    }
    made = {
        call.method for kind in ("tensorrt", "tensorrt_lean", "tensorrt_rtx")
        for call in calls(tmp_path, kind)
    }
    assert named & known - made - OURS_TO_WRITE == set()


def test_the_stand_in_has_the_real_signatures(tmp_path, real):
    module = make_module(_machine(tmp_path), real.__name__)
    for owner in CLASSES:
        ours, theirs = getattr(module, owner), getattr(real, owner)
        for method in methods_of(ours):
            if method in LATER and not hasattr(theirs, method):
                continue
            code = getattr(ours, method).__code__
            names = code.co_varnames[1 : code.co_argcount]
            forms = signatures(getattr(theirs, method))
            assert any(
                names == tuple(parameter.name for parameter in form.parameters) for form in forms
            ), (owner, method, names, forms)


def test_properties_and_enums_that_the_adapter_uses(real):
    for owner, name, writable in (
        ("Runtime", "engine_host_code_allowed", True),
        ("ICudaEngine", "num_io_tensors", False),
        ("ICudaEngine", "num_optimization_profiles", False),
        ("IExecutionContext", "nvtx_verbosity", True),
    ):
        found = getattr(getattr(real, owner), name)
        assert isinstance(found, property)
        assert bool(found.fset) >= writable
    module = make_module(_machine(None), real.__name__)
    for name in ("DataType", "TensorIOMode", "TensorLocation", "ProfilingVerbosity",
                 "ExecutionContextAllocationStrategy"):
        ours, theirs = getattr(module, name), getattr(real, name)
        assert set(ours.__members__) == set(theirs.__members__)
        assert all(member.name == text for text, member in theirs.__members__.items())
    assert hasattr(real, "TensorFormat") == hasattr(module, "TensorFormat")
    if hasattr(real, "TensorFormat"):
        assert set(module.TensorFormat.__members__) <= set(real.TensorFormat.__members__)
    severities = {"INTERNAL_ERROR", "ERROR", "WARNING"}
    assert all(hasattr(real.ILogger, name) for name in severities)
    rtx = "DynamicShapesKernelSpecializationStrategy"
    assert hasattr(real, rtx) == hasattr(module, rtx)
    if hasattr(real, rtx):
        assert "EAGER" in real.DynamicShapesKernelSpecializationStrategy.__members__
        found = real.IRuntimeConfig.dynamic_shapes_kernel_specialization_strategy
        assert isinstance(found, property)
        assert found.fset


def test_classes_that_users_make_can_be_made(tmp_path, real):
    """Without a driver nothing else can be: they are only called back."""
    from trtserve.engine.tensorrt_errors import message_log
    from trtserve.engine.tensorrt_outputs import OutputPlace, output_allocator

    log = message_log(real, "TensorRT")
    log.log(real.ILogger.ERROR, "broken")
    log.log(real.ILogger.INFO, "chatter")
    assert log.take() == ["broken"]
    device = Stand(tmp_path).device
    place = OutputPlace("y", device.allocate)
    allocator = output_allocator(real, place)
    address = allocator.reallocate_output_async("y", 0, 100, 256, 0)
    assert address == place.address != 0
    assert allocator.reallocate_output("y", address, 50, 256) == address
    allocator.notify_shape("y", real.Dims((2, 3)))
    assert place.shape == (2, 3)


def test_signatures_are_read():
    def method() -> None: ...

    method.__doc__ = (
        "method(*args, **kwargs)\nOverloaded function.\n\n"
        "1. method(self: a.B, name: str, shape: tuple) -> bool\n\n"
        "2. method(self: a.B, x: collections.abc.Sequence[typing.SupportsInt], "
        "y: a.Kind = <Kind.ONE: 1>, z: a::b::C = None) -> list[str]\n"
    )
    one, two = signatures(method)
    assert [(each.name, each.kind, each.optional) for each in one.parameters] == [
        ("name", "str", False), ("shape", "tuple", False)
    ]
    assert [(each.name, each.kind, each.optional) for each in two.parameters] == [
        ("x", "Sequence", False), ("y", "Kind", True), ("z", "C", True)
    ]
    assert (one.returns, two.returns) == ("bool", "list")
    assert one.takes(("x", (1, 2)))
    assert not one.takes(("x", [1, 2]))
    assert not one.takes(("x",))
    assert not one.takes(("x", (1,), 3))
    assert isinstance(EngineBase.get_tensor_name, types.FunctionType)


def _machine(folder: Path | None) -> HostMachine:
    return HostMachine(Stand(folder or Path()).device)
