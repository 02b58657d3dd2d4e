"""A model configuration against what the engines declare: agreement, and narrower shapes."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

import msgspec

from trtserve.errors import ConfigurationError, RepositoryError
from trtserve.model.configuration_file import FieldPath, Origin
from trtserve.model.spec import ANY, ShapeRange, TensorSpec, VariantSpec
from trtserve.model.tensor import Shape
from trtserve.proto.model_config_pb2 import ModelConfig, ModelInput, ModelOutput

if TYPE_CHECKING:  # enums exist in the stubs only
    from trtserve.proto.model_config_pb2 import DataType

_DATA_TYPES = ModelConfig.DESCRIPTOR.file.enum_types_by_name["DataType"]


def datatype_name(data_type: int) -> str:
    """The protocol's datatype for a DataType; empty for TYPE_INVALID."""
    if data_type == 0:
        return ""
    name: str = _DATA_TYPES.values_by_number[data_type].name.removeprefix("TYPE_")
    return "BYTES" if name == "STRING" else name


def data_type_number(datatype: str) -> "DataType":
    """The DataType of one of the protocol's datatypes."""
    return cast("DataType", _DATA_TYPES.values_by_name[f"TYPE_{_type_word(datatype)}"].number)


def fit(
    message: ModelConfig, origin: Origin, variants: tuple[VariantSpec, ...], where: str
) -> tuple[VariantSpec, ...]:
    """The variants with the configuration's batch limit and fixed dimensions.

    `where` names the version. Raises ConfigurationError where an engine does not take what the
    configuration says, and RepositoryError where the variants can not be one version.
    """
    _check_alike(variants, where)
    size = _batch_size(message, variants[0])
    fitted = tuple(_Fit(message, origin, variant).run(size) for variant in variants)
    first = fitted[0]
    for variant in fitted[1:]:
        if bool(variant.max_batch) != bool(first.max_batch):
            batched, single = (first, variant) if first.max_batch else (variant, first)
            raise RepositoryError(
                f"dimension 0 is a batch in {batched.name} and not in {single.name}", where=where,
                cure=f"Export {single.name} again with a dynamic batch dimension, or set "
                "max_batch_size: 0",
            )
    return fitted


def describe(tensors: Sequence[TensorSpec]) -> str:
    """The tensors for people: `x FP32[-1, 3, 224, 224], y INT64[1]`."""
    return ", ".join(f"{tensor.name} {tensor.datatype}{list(tensor.shape)}" for tensor in tensors)


def _check_alike(variants: tuple[VariantSpec, ...], where: str) -> None:
    if not variants:
        raise RepositoryError(
            "no engine of this version is loaded", where=where, cure="Add an engine file"
        )
    names = [variant.name for variant in variants]
    for name in names:
        if names.count(name) > 1:
            raise RepositoryError(
                f"two variants are named '{name}'", where=where, cure="Rename one of the files"
            )
    first = variants[0]
    for variant in variants[1:]:
        for kind, ours, theirs in (
            ("inputs", first.inputs, variant.inputs), ("outputs", first.outputs, variant.outputs),
        ):
            if list(map(_signature, ours)) != list(map(_signature, theirs)):
                raise RepositoryError(
                    f"{first.name} and {variant.name} have different {kind}: {describe(ours)}; "
                    f"and {describe(theirs)}",
                    where=where,
                    cure="The variants of a version need the same names, in the same order, with "
                    "the same datatypes and ranks; move one of them to a model of its own",
                )


def _signature(tensor: TensorSpec) -> tuple[str, str, int]:
    return tensor.name, tensor.datatype, len(tensor.shape)


def _batch_size(message: ModelConfig, variant: VariantSpec) -> int | None:
    """The configuration's batch limit; 0: no batches; None: as the engine has it.

    Without max_batch_size, dims as long as the engine's shape say that they are whole.
    """
    if message.HasField("max_batch_size"):
        return message.max_batch_size
    listed: Sequence[ModelInput | ModelOutput]
    for listed, tensors in ((message.input, variant.inputs), (message.output, variant.outputs)):
        ranks = {tensor.name: len(tensor.shape) for tensor in tensors}
        for entry in listed:
            if entry.dims and entry.name in ranks:
                return 0 if len(entry.dims) == ranks[entry.name] else None
    return None


class _Fit:
    """Fits the configuration to one variant."""

    def __init__(self, message: ModelConfig, origin: Origin, variant: VariantSpec) -> None:
        self._message = message
        self._origin = origin
        self._variant = variant

    def run(self, size: int | None) -> VariantSpec:
        if size:
            self._limit_batch(size)
        elif size == 0:
            self._variant = msgspec.structs.replace(self._variant, max_batch=0)
        variant = self._variant
        inputs, ranges = list(variant.inputs), list(variant.ranges)
        for index, listed in enumerate(self._message.input):
            at, dims = self._match("input", index, listed, variant.inputs)
            if dims:
                ranges[at] = self._narrow_range(("input", index, "dims"), dims, at)
                inputs[at] = _narrow_spec(inputs[at], dims)
        outputs = list(variant.outputs)
        for index, listed_output in enumerate(self._message.output):
            at, dims = self._match("output", index, listed_output, variant.outputs)
            if dims:
                self._check_output(("output", index, "dims"), dims, outputs[at])
                outputs[at] = _narrow_spec(outputs[at], dims)
        return msgspec.structs.replace(
            variant, inputs=tuple(inputs), outputs=tuple(outputs), ranges=tuple(ranges)
        )

    def _error(self, place: FieldPath, problem: str, cure: str) -> ConfigurationError:
        return ConfigurationError(problem, where=self._origin.where(*place), cure=cure)

    def _limit_batch(self, size: int) -> None:
        """Make dimension 0 a batch of at most `size`."""
        variant, place = self._variant, ("max_batch_size",)
        export = "Export it again with a dynamic batch dimension"
        whole = "set max_batch_size: 0 and write the whole shapes as dims"
        limit = size
        for tensor, limits in zip(variant.inputs, variant.ranges, strict=True):
            if not limits.max:
                raise self._error(
                    place, f"input '{tensor.name}' of {variant.name} is a single value, without "
                    "a batch dimension", f"{export}, or {whole}",
                )
            if size > 1 and limits.max[0] == 1:
                raise self._error(
                    place, f"max_batch_size is {size} and {variant.name} was built for one image: "
                    f"dimension 0 of input '{tensor.name}' is fixed to 1", f"{export}, or {whole}",
                )
            if limits.min[0] > size:
                raise self._error(
                    place, f"{variant.name} takes batches of {limits.min[0]} or more and "
                    f"max_batch_size is {size}", f"Raise it to {limits.min[0]}, or {whole}",
                )
            if limits.max[0] != ANY:
                limit = min(limit, limits.max[0])
        for tensor in variant.outputs:
            if not tensor.shape or tensor.shape[0] not in (ANY, limit):
                raise self._error(
                    place, f"max_batch_size is {size} and dimension 0 of output '{tensor.name}' "
                    f"of {variant.name} is not a batch: {describe((tensor,))}",
                    f"{export}, or {whole}",
                )
        ranges = tuple(
            _narrowed(limits, 0, limits.min[0], limit) for limits in variant.ranges
        )
        self._variant = msgspec.structs.replace(variant, max_batch=limit, ranges=ranges)

    def _match(
        self, kind: str, index: int, listed: ModelInput | ModelOutput,
        tensors: tuple[TensorSpec, ...],
    ) -> tuple[int, Shape]:
        """The tensor that is listed, and its whole dims: empty where none are written."""
        name, place = self._variant.name, (kind, index)
        at = next((at for at, tensor in enumerate(tensors) if tensor.name == listed.name), None)
        if at is None:
            raise self._error(
                (*place, "name"), f"{name} has no {kind} '{listed.name}'",
                f"It has {describe(tensors)}",
            )
        tensor, datatype = tensors[at], datatype_name(listed.data_type)
        if datatype and datatype != tensor.datatype:
            raise self._error(
                (*place, "data_type"), f"{kind} '{tensor.name}' of {name} is {tensor.datatype}, "
                f"not {datatype}", f"Write TYPE_{_type_word(tensor.datatype)}",
            )
        if not listed.dims:
            return at, ()
        dims = (ANY, *listed.dims) if self._variant.max_batch else tuple(listed.dims)
        if len(dims) != len(tensor.shape):
            raise self._error(
                (*place, "dims"), f"dims {list(listed.dims)} do not have the rank of {kind} "
                f"{describe((tensor,))} of {name}", self._rank_cure(tensor),
            )
        return at, dims

    def _rank_cure(self, tensor: TensorSpec) -> str:
        if self._variant.max_batch:
            return (
                f"Dimension 0 is the batch and is left out: write {list(tensor.shape[1:])}, "
                "or set max_batch_size: 0 and write the whole shape"
            )
        return f"There is no batch dimension: write {list(tensor.shape)}"

    def _narrow_range(self, place: FieldPath, dims: Shape, at: int) -> ShapeRange:
        limits = self._variant.ranges[at]
        for index, dim in enumerate(dims):
            if dim == ANY:
                continue
            low, high = limits.min[index], limits.max[index]
            if dim < low or (high != ANY and dim > high):
                raise self._misfit(place, self._variant.inputs[at].name, dims, str(limits))
            limits = _narrowed(limits, index, dim, dim)
        return limits

    def _check_output(self, place: FieldPath, dims: Shape, tensor: TensorSpec) -> None:
        for dim, ours in zip(dims, tensor.shape, strict=True):
            if ANY not in (dim, ours) and dim != ours:
                raise self._misfit(place, tensor.name, dims, str(list(tensor.shape)))

    def _misfit(
        self, place: FieldPath, tensor: str, dims: Shape, engine: str
    ) -> ConfigurationError:
        batch = "; dimension 0 is the batch" if self._variant.max_batch else ""
        return self._error(
            place, f"the shape {list(dims)} of '{tensor}' does not fit {self._variant.name}, "
            f"which has {engine}{batch}", "Write -1 for a dimension that varies",
        )


def _type_word(datatype: str) -> str:
    return "STRING" if datatype == "BYTES" else datatype


def _narrow_spec(tensor: TensorSpec, dims: Shape) -> TensorSpec:
    shape = tuple(
        ours if dim == ANY else dim for ours, dim in zip(tensor.shape, dims, strict=True)
    )
    return msgspec.structs.replace(tensor, shape=shape)


def _narrowed(limits: ShapeRange, index: int, low: int, high: int) -> ShapeRange:
    """The range with one dimension's limits replaced; the tuned shape stays inside them."""
    def put(shape: Shape, dim: int) -> Shape:
        return (*shape[:index], dim, *shape[index + 1 :])

    opt = limits.opt
    if opt is not None:
        opt = put(opt, min(max(opt[index], low), high))
    return ShapeRange(put(limits.min, low), put(limits.max, high), opt)
