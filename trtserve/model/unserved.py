"""The fields of Triton's model configuration that are read and not served.

They never fail a model: each gives a warning that names the field and says why, so that an
existing repository serves at once and its owner knows what differs.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

from trtserve.model.configuration_file import FieldPath, Origin
from trtserve.model.finding import Finding
from trtserve.proto.model_config_pb2 import ModelConfig


class Unserved(NamedTuple):
    """Why a field is not served, and which of its values ask for nothing all the same."""

    reason: str
    harmless: frozenset[Any] = frozenset()


UNSERVED: dict[str, Unserved] = {
    "batch_input": Unserved("no inputs are made from the make-up of a batch"),
    "batch_output": Unserved("outputs are split by their first dimension only"),
    "cc_model_filenames": Unserved("the same files serve every device"),
    "dynamic_batching.default_queue_policy.timeout_action": Unserved(
        "requests whose time has run out are always refused"
    ),
    "dynamic_batching.preserve_ordering": Unserved("responses come when they are ready"),
    "dynamic_batching.priority_queue_policy": Unserved(
        "default_queue_policy holds for every priority"
    ),
    "ensemble_scheduling": Unserved("each model is called by itself"),
    "input.allow_ragged_batch": Unserved("only requests of one shape share a batch"),
    "input.is_non_linear_format_io": Unserved("tensors are row-major"),
    "input.is_shape_tensor": Unserved("the engine says which inputs are shape tensors"),
    "input.optional": Unserved("a request has to give every input of the engine"),
    "input.reshape": Unserved("requests have to use the engine's own shape"),
    "instance_group.host_policy": Unserved("each device has one worker, with one policy"),
    "instance_group.passive": Unserved("every loaded model takes requests"),
    "instance_group.profile": Unserved("the router picks the profile by the request's shapes"),
    "instance_group.rate_limiter": Unserved(
        "models share lanes fairly; count limits how many one model has"
    ),
    "instance_group.secondary_devices": Unserved("models run on CUDA devices and the CPU only"),
    "metric_tags": Unserved("metrics are labelled by model and version"),
    "model_metrics": Unserved("the buckets of histograms are the same for all models"),
    "model_operations": Unserved("no custom operator libraries are loaded"),
    "model_repository_agents": Unserved("model files are read as they are"),
    "model_transaction_policy.decoupled": Unserved("each request has exactly one response"),
    "model_warmup.count": Unserved(
        "a shape is run until its latency is known", frozenset({1})
    ),
    "model_warmup.inputs.input_data_file": Unserved("warm-up uses the shape with zeros"),
    "optimization.cuda": Unserved("the lanes choose by themselves how they run a model"),
    "optimization.eager_batching": Unserved("the batcher gathers ahead by itself"),
    "optimization.execution_accelerators": Unserved("the runtime's own kernels are used"),
    "optimization.gather_kernel_buffer_threshold": Unserved(
        "copies gather a batch, not kernels"
    ),
    "optimization.graph": Unserved("the runtime's default optimization level is used"),
    "optimization.input_pinned_memory": Unserved("the device chooses the memory for copies"),
    "optimization.output_pinned_memory": Unserved("the device chooses the memory for copies"),
    "optimization.priority": Unserved("models share a device fairly"),
    "output.is_non_linear_format_io": Unserved("tensors are row-major"),
    "output.is_shape_tensor": Unserved("the engine says which outputs are shape tensors"),
    "output.reshape": Unserved("responses have the engine's own shape"),
    "response_cache.enable": Unserved("every request is run"),
    "runtime": Unserved("the engine file's suffix decides the runtime"),
    "sequence_batching": Unserved("requests are independent of one another"),
}
"""Fields by their path in the schema, without indexes; with a field, all that is inside it."""


def unserved_findings(message: ModelConfig, origin: Origin) -> tuple[Finding, ...]:
    """A warning for each field that the message sets and that is not served."""
    named: dict[str, Finding] = {}
    for name, place in _unserved(message, "", ()):
        if name not in named:  # one warning for a field, at the first place
            problem = f"'{name}' is not served: {UNSERVED[name].reason}"
            named[name] = Finding("warning", origin.where(*place), problem)
    return tuple(named.values())


def _unserved(message: Any, prefix: str, base: FieldPath) -> Iterator[tuple[str, FieldPath]]:
    for field, place, value in _items(message):
        name = f"{prefix}{field}"
        entry = UNSERVED.get(name)
        is_message = hasattr(value, "ListFields")
        if entry is not None and (is_message or value not in entry.harmless):
            yield name, base + place
        elif entry is None and is_message:
            yield from _unserved(value, f"{name}.", base + place)


def _items(message: Any) -> Iterator[tuple[str, FieldPath, Any]]:
    """Each value that a message sets: the field's name, its path in the message, the value.

    Repeated fields and maps give one item for each element.
    """
    for descriptor, value in message.ListFields():
        name = descriptor.name
        if descriptor.message_type and descriptor.message_type.GetOptions().map_entry:
            for key in sorted(value):
                yield name, (name, key), value[key]
        elif isinstance(value, str | bytes | int | float) or hasattr(value, "ListFields"):
            yield name, (name,), value
        else:
            for index, item in enumerate(value):
                yield name, (name, index), item
