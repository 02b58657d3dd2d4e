"""The report of an engine, asked of an imitation that answers as TensorRT does on a GPU."""

import msgspec
import pytest
import tensorrt_rtx

from trtserve.build.inspection import inspect_plan


class Inspector:
    """EngineInspector: of an engine without a context it tells names only."""

    execution_context: object = None

    def get_engine_information(self, layer_format):
        assert layer_format == tensorrt_rtx.LayerInformationFormat.JSON
        layer = {"Name": "conv"}
        if self.execution_context is not None:
            layer["TacticName"] = "tile_64"
        return msgspec.json.encode({"Layers": [layer]}).decode()


class Engine:
    """As much of ICudaEngine. Without memory for it there is no context."""

    num_aux_streams = 2

    def __init__(self, has_memory):
        self.has_memory = has_memory

    def create_engine_inspector(self):
        return Inspector()

    def create_execution_context(self, strategy):
        assert strategy == tensorrt_rtx.ExecutionContextAllocationStrategy.USER_MANAGED
        return object() if self.has_memory else None

    def get_device_memory_size_for_profile_v2(self, profile_index):
        return 1024 * (profile_index + 1)


class Module:
    """As much of the module, whose runtime loads these plans."""

    LayerInformationFormat = tensorrt_rtx.LayerInformationFormat
    ExecutionContextAllocationStrategy = tensorrt_rtx.ExecutionContextAllocationStrategy

    class Runtime:
        """Refuses plans that carry host code where that is not allowed."""

        engine_host_code_allowed = False

        def __init__(self, logger):
            pass

        def deserialize_cuda_engine(self, serialized_engine):
            if serialized_engine == b"code" and not self.engine_host_code_allowed:
                return None
            return Engine(has_memory=serialized_engine != b"large")


def inspect(plan, *, profiles=1, host_code=False):
    return inspect_plan(Module, None, plan, profiles, host_code=host_code)


@pytest.mark.parametrize(("plan", "details"), [
    (b"plan", {"TacticName": "tile_64"}), (b"large", {}),
])
def test_layers_are_asked_of_a_context_if_there_can_be_one(plan, details):
    assert inspect(plan).layers == {"Layers": [{"Name": "conv", **details}]}


def test_scratch_memory_is_told_for_each_profile():
    report = inspect(b"plan", profiles=3)
    assert report.scratch_bytes == (1024, 2048, 3072)
    assert report.aux_streams == 2


def test_plans_that_carry_code_are_loaded_if_they_are_ours():
    assert inspect(b"code", host_code=True) is not None
    assert inspect(b"code") is None


def test_a_plan_that_can_not_be_loaded_here_has_no_report():
    module = tensorrt_rtx
    log = module.Logger(module.Logger.INTERNAL_ERROR)
    assert inspect_plan(module, log, b"no plan", 1, host_code=False) is None
