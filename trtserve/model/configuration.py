"""A model's optional configuration: the message inference.ModelConfig, written by people.

    configuration = read_configuration(repository / "det")     # parsed, checked, warned about
    version = apply(configuration, "det", 1, engine.platform, engine.variants)

The file is config.pbtxt (protobuf text format), config.yaml or config.json: the same message.
Everything may be left out: it is then derived from the engines.
"""

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import msgspec

from trtserve.model.configuration_checks import check
from trtserve.model.configuration_file import Origin, read_file
from trtserve.model.configuration_fit import data_type_number, datatype_name, fit
from trtserve.model.finding import Finding
from trtserve.model.spec import QueuePolicy, TensorSpec, VariantSpec, VersionSpec
from trtserve.model.unserved import unserved_findings
from trtserve.model.version_labels import LABELS, WEIGHTS, VersionNames, read_names
from trtserve.model.version_policy import VersionPolicy
from trtserve.proto.model_config_pb2 import ModelConfig

_INT32_MAX = 2**31 - 1


class WarmupShapes(msgspec.Struct, frozen=True):
    """One `model_warmup` entry: run these shapes before serving.

    `batch_size` is at least 1. The inputs' shapes are without the batch where the model is
    batched, as everywhere in the configuration; an empty datatype is the engine's own.
    """

    name: str
    batch_size: int
    inputs: tuple[TensorSpec, ...]


@dataclass(frozen=True)
class ModelConfiguration:
    """What a model's folder says about it. `ModelConfiguration()` is that of a folder that says
    nothing; you get others from `read_configuration`. Nothing here changes `message`.
    """

    message: ModelConfig = field(default_factory=ModelConfig)
    origin: Origin = field(default_factory=Origin)
    findings: tuple[Finding, ...] = ()

    @property
    def source(self) -> Path | None:
        """The file that it was read from, if any."""
        return self.origin.path

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the message asks for and is not served, each with its line."""
        return tuple(map(str, self.findings))

    @property
    def max_batch_size(self) -> int | None:
        """The largest batch; 0: dimension 0 is not a batch; None: as the engines have it."""
        return self.message.max_batch_size if self.message.HasField("max_batch_size") else None

    @cached_property
    def queue(self) -> QueuePolicy:
        """How requests wait. Models are batched with or without `dynamic_batching`.

        A max_queue_delay_microseconds of 0 is the same as none: the batcher's own choice.
        """
        if not self.message.HasField("dynamic_batching"):
            return QueuePolicy()
        batching = self.message.dynamic_batching
        policy = batching.default_queue_policy
        return QueuePolicy(
            max_delay_us=batching.max_queue_delay_microseconds or None,
            preferred_batch_sizes=tuple(sorted(set(batching.preferred_batch_size))),
            max_queue_size=policy.max_queue_size,
            default_timeout_us=policy.default_timeout_microseconds,
            # The schema's default is false; only who writes a queue policy can mean that.
            allow_timeout_override=policy.allow_timeout_override
            or not batching.HasField("default_queue_policy"),
            priority_levels=batching.priority_levels,
            default_priority=batching.default_priority_level,
        )

    @cached_property
    def parameters(self) -> dict[str, str]:
        """Options for the engine adapter."""
        parameters = self.message.parameters
        return {
            name: parameters[name].string_value
            for name in sorted(parameters) if name not in (LABELS, WEIGHTS)
        }

    @cached_property
    def names(self) -> VersionNames:
        """The labels and the weights of versions."""
        return read_names(self.message, self.origin)

    @property
    def default_model_filename(self) -> str:
        """The one engine file of a version folder that counts; empty: all of them."""
        return self.message.default_model_filename

    @cached_property
    def version_policy(self) -> VersionPolicy:
        """Which version folders are served."""
        return VersionPolicy.of(self.message.version_policy)

    @cached_property
    def warmups(self) -> tuple[WarmupShapes, ...]:
        """The shapes to run before serving, in the order written, inputs sorted by name."""
        return tuple(
            WarmupShapes(
                warmup.name,
                warmup.batch_size or 1,
                tuple(
                    TensorSpec(name, datatype_name(tensor.data_type), tuple(tensor.dims))
                    for name, tensor in sorted(warmup.inputs.items())
                ),
            )
            for warmup in self.message.model_warmup
        )


def read_configuration(folder: Path, model: str = "") -> ModelConfiguration:
    """Read the configuration in a model's folder; all defaults where there is no file. The model
    is named as its folder unless `model` says otherwise.

    Raises ConfigurationError, naming the line, for an unknown field or a wrong value, and where
    several files configure the model; OSError where the file can not be read.
    """
    message, origin = read_file(folder)
    check(message, origin, model or folder.name)
    configuration = ModelConfiguration(message, origin, unserved_findings(message, origin))
    _ = configuration.names  # so that a mistake in them shows now
    return configuration


def apply(
    configuration: ModelConfiguration,
    model: str,
    version: int,
    platform: str,
    variants: tuple[VariantSpec, ...],
) -> VersionSpec:
    """The version as it is served: the engines' variants within the configuration's limits.

    `platform` is the engine adapter's, such as `onnxruntime_onnx`. Raises ConfigurationError
    where the engines do not have what the configuration says, and RepositoryError where the
    variants differ in more than their shapes.
    """
    fitted = fit(configuration.message, configuration.origin, variants, f"{model}/{version}")
    names = configuration.names
    spec = VersionSpec(
        model, version, platform, fitted, configuration.queue,
        labels=names.labels_of(version), weight=names.weight_of(version),
    )
    return msgspec.structs.replace(
        spec, config=_complete(configuration.message, spec).SerializeToString(deterministic=True)
    )


def _complete(written: ModelConfig, spec: VersionSpec) -> ModelConfig:
    """What was written, with all that was left out filled in from the engines."""
    message = ModelConfig()
    message.CopyFrom(written)
    message.name = spec.model
    message.platform = spec.platform
    message.backend = spec.platform.partition("_")[0]
    max_batch = min(max(variant.max_batch for variant in spec.variants), _INT32_MAX)
    message.max_batch_size = max_batch
    if not message.HasField("version_policy"):
        message.version_policy.latest.num_versions = 1
    del message.input[:], message.output[:]
    inputs = {tensor.name: tensor for tensor in written.input}
    outputs = {tensor.name: tensor for tensor in written.output}
    skip = 1 if max_batch else 0
    for tensor in spec.inputs:
        entry = message.input.add()
        if tensor.name in inputs:
            entry.CopyFrom(inputs[tensor.name])
        entry.name = tensor.name
        entry.data_type = data_type_number(tensor.datatype)
        entry.dims[:] = tensor.shape[skip:]
    for tensor in spec.outputs:
        result = message.output.add()
        if tensor.name in outputs:
            result.CopyFrom(outputs[tensor.name])
        result.name = tensor.name
        result.data_type = data_type_number(tensor.datatype)
        result.dims[:] = tensor.shape[skip:]
    return message
