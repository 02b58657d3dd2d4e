"""What the builder chose, asked of the built engine: needs a GPU that can load it."""

from typing import Any

import msgspec

from trtserve.model.plan_manifest import EngineReport


def inspect_plan(
    module: Any, log: Any, plan: Any, profiles: int, *, host_code: bool
) -> EngineReport | None:
    """The report of a plan that was built just now; None where it can not be loaded here.

    `host_code`: the plan carries some, which is allowed here, since it is our own.
    """
    runtime = module.Runtime(log)
    if runtime is None:
        return None
    if host_code:
        runtime.engine_host_code_allowed = True
    engine = runtime.deserialize_cuda_engine(plan)
    if engine is None:
        return None
    inspector = engine.create_engine_inspector()
    # TensorRT 10 tells less of an engine alone. The context is not to run, so it gets no memory.
    context = engine.create_execution_context(
        module.ExecutionContextAllocationStrategy.USER_MANAGED
    )
    if context is not None:
        inspector.execution_context = context
    text = inspector.get_engine_information(module.LayerInformationFormat.JSON)
    scratch = tuple(
        int(engine.get_device_memory_size_for_profile_v2(index))
        for index in range(max(1, profiles))
    )
    return EngineReport(_layers(text), scratch, int(engine.num_aux_streams))


def _layers(text: str) -> dict[str, object]:
    try:
        return msgspec.json.decode(text, type=dict[str, object])
    except msgspec.DecodeError:
        return {"unparsed": text}
