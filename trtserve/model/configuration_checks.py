"""Values of a model configuration that can not be meant, whatever the engines take."""

from collections.abc import Sequence
from pathlib import PurePosixPath

from trtserve.errors import ConfigurationError
from trtserve.model.configuration_file import FieldPath, Origin
from trtserve.proto.model_config_pb2 import (
    ModelConfig,
    ModelDynamicBatching,
    ModelInput,
    ModelInstanceGroup,
    ModelOutput,
    ModelVersionPolicy,
    ModelWarmup,
)


def check(message: ModelConfig, origin: Origin, folder_name: str) -> None:
    """Refuse values that can not work. Raises ConfigurationError with the line."""
    _Check(origin).model(message, folder_name)


class _Check:
    def __init__(self, origin: Origin) -> None:
        self._origin = origin

    def _error(self, place: FieldPath, problem: str, cure: str) -> ConfigurationError:
        return ConfigurationError(problem, where=self._origin.where(*place), cure=cure)

    def model(self, message: ModelConfig, folder_name: str) -> None:
        if message.name and message.name != folder_name:
            raise self._error(
                ("name",), f"name is '{message.name}' and the model's folder is '{folder_name}'",
                "Make them the same, or leave name out",
            )
        if message.max_batch_size < 0:
            raise self._error(
                ("max_batch_size",), f"max_batch_size {message.max_batch_size} is negative",
                "Use 0 where dimension 0 is not a batch, or leave it out",
            )
        file = message.default_model_filename
        if file and (file in {".", ".."} or PurePosixPath(file).name != file):
            raise self._error(
                ("default_model_filename",), f"'{file}' is no file name",
                "Name a file of the version folder, without a path",
            )
        self._tensors("input", message.input)
        self._tensors("output", message.output)
        self._version_policy(message.version_policy)
        if message.HasField("dynamic_batching"):
            self._batching(message.dynamic_batching, message)
        for index, group in enumerate(message.instance_group):
            self._instance_group(index, group)
        for index, warmup in enumerate(message.model_warmup):
            self._warmup(index, warmup, message)

    def _tensors(self, kind: str, tensors: Sequence[ModelInput | ModelOutput]) -> None:
        names: set[str] = set()
        for index, tensor in enumerate(tensors):
            place = (kind, index)
            if not tensor.name:
                raise self._error(place, f"this {kind} has no name", "Add its name in the engine")
            if tensor.name in names:
                raise self._error(
                    (*place, "name"), f"{kind} '{tensor.name}' comes twice", "Keep one of them"
                )
            names.add(tensor.name)
            what = f"{kind} '{tensor.name}'"
            self._datatype(place, what, tensor.data_type)
            self._dims(place, what, tensor.dims, lowest=-1)

    def _datatype(self, place: FieldPath, what: str, data_type: int) -> None:
        # Left out is the same value in the message, and takes the engine's datatype.
        if data_type == 0 and self._origin.has(*place, "data_type"):
            raise self._error(
                (*place, "data_type"), f"{what} has data_type TYPE_INVALID",
                "Write the engine's, such as TYPE_FP32, or leave it out",
            )

    def _dims(self, place: FieldPath, what: str, dims: Sequence[int], lowest: int) -> None:
        for index, dim in enumerate(dims):
            if dim == 0 or dim < lowest:
                choice = " or -1 for any" if lowest < 0 else ""
                raise self._error(
                    (*place, "dims", index), f"{what} has dimension {dim}",
                    f"Use 1 or more{choice}",
                )

    def _version_policy(self, policy: ModelVersionPolicy) -> None:
        place = ("version_policy",)
        choice = policy.WhichOneof("policy_choice")
        if choice == "latest" and policy.latest.num_versions < 1:
            raise self._error(
                place, "the latest 0 versions are none", "Set num_versions to 1 or more"
            )
        if choice == "specific":
            if not policy.specific.versions:
                raise self._error(place, "specific names no versions", "List them in versions")
            for version in policy.specific.versions:
                if version < 1:
                    raise self._error(place, f"{version} is no version", "Use 1 or more")

    def _batching(self, batching: ModelDynamicBatching, message: ModelConfig) -> None:
        place = ("dynamic_batching",)
        for index, size in enumerate(batching.preferred_batch_size):
            self._batch_size((*place, "preferred_batch_size", index), size, message)
        levels, default = batching.priority_levels, batching.default_priority_level
        if default > levels:
            raise self._error(
                (*place, "default_priority_level"),
                f"default_priority_level {default} is above priority_levels {levels}",
                f"Use 1 to {levels}" if levels else "Set priority_levels too",
            )
        if levels and not default:
            raise self._error(
                (*place, "priority_levels"), "priority_levels without default_priority_level",
                f"Set default_priority_level to 1 (first) to {levels} (last)",
            )

    def _batch_size(self, place: FieldPath, size: int, message: ModelConfig) -> None:
        if size < 1:
            raise self._error(place, f"batch size {size} is no size", "Use 1 or more")
        limit = message.max_batch_size
        if message.HasField("max_batch_size") and size > max(limit, 1):
            raise self._error(
                place, f"batch size {size} is above max_batch_size {limit}",
                "Lower it or raise max_batch_size",
            )

    def _instance_group(self, index: int, group: ModelInstanceGroup) -> None:
        place = ("instance_group", index)
        if group.count < 0:
            raise self._error(
                (*place, "count"), f"count {group.count} is negative",
                "Use 1 or more, or leave it out",
            )
        for number, gpu in enumerate(group.gpus):
            if gpu < 0:
                raise self._error(
                    (*place, "gpus", number), f"{gpu} is no GPU", "Use 0 or more"
                )
        if group.gpus and group.kind == ModelInstanceGroup.KIND_CPU:
            raise self._error(
                (*place, "gpus"), "an instance_group of KIND_CPU names gpus",
                "Leave gpus out, or make it KIND_GPU",
            )

    def _warmup(self, index: int, warmup: ModelWarmup, message: ModelConfig) -> None:
        place = ("model_warmup", index)
        # Triton asks for 1 where a model has no batches; leaving it out means the same.
        self._batch_size((*place, "batch_size"), warmup.batch_size or 1, message)
        for name, tensor in warmup.inputs.items():
            what = f"warm-up input '{name}'"
            inside = (*place, "inputs", name)
            self._datatype(inside, what, tensor.data_type)
            self._dims(inside, what, tensor.dims, lowest=1)
