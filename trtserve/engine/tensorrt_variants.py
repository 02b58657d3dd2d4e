"""Which variants a plan's profiles make. Pure.

Each profile is a variant, except where profiles only divide the sizes of a batch among them, such
as 1, 2 to 8 and 9 to 32 rows of the same images. A batch is gathered before its size is known, so
these are one variant, whose runs choose the profile.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import msgspec

from trtserve.model.finding import Finding
from trtserve.model.spec import ANY, ShapeRange, TensorSpec, VariantSpec
from trtserve.model.tensor import Shape

REBUILD_BATCH = "Build it again with batches, such as trtserve build MODEL.onnx --batch 1,8,32"

_IMAGE_RANK = 3
"""An input with fewer dimensions than that, and 1 as its first, need not be a batch of one."""


@dataclass(frozen=True, slots=True)
class Profile:
    """An optimization profile: each input's whole shapes, and the (min, opt, max) values of those
    that TensorRT reads on the host. `scratch`: the bytes that a context on it needs."""

    index: int
    ranges: tuple[ShapeRange, ...]
    values: tuple[tuple[tuple[int, ...], ...] | None, ...] = ()
    scratch: int = 0

    @property
    def batches(self) -> tuple[int, int]:
        """The smallest and the largest dimension 0 that all inputs take."""
        return (
            max(shapes.min[0] for shapes in self.ranges),
            min(shapes.max[0] for shapes in self.ranges),
        )

    def takes(self, shapes: Sequence[Shape]) -> bool:
        """Whether whole input shapes fit."""
        return all(
            within.takes(shape) for within, shape in zip(self.ranges, shapes, strict=True)
        )


@dataclass(frozen=True, slots=True)
class Variant:
    """What is served as one variant, and its profiles, by rising batches."""

    spec: VariantSpec
    profiles: tuple[Profile, ...]

    @property
    def scratch(self) -> int:
        """The bytes that its largest profile needs."""
        return max(profile.scratch for profile in self.profiles)

    def find(self, shapes: Sequence[Shape]) -> int | None:
        """The place of the profile for whole input shapes: of several, that for the smallest
        batches. None: no profile takes them."""
        for place, profile in enumerate(self.profiles):
            if profile.takes(shapes):
                return place
        return None


def without_batches(variant: Variant) -> Variant:
    """The same, with requests that run one by one."""
    return replace(variant, spec=msgspec.structs.replace(variant.spec, max_batch=0))


def make_variants(
    name: str, inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...],
    profiles: Sequence[Profile],
) -> tuple[tuple[Variant, ...], tuple[Finding, ...]]:
    """The variants of a plan's profiles, and what the operator should know of them.

    `name` is the file's.
    """
    tensors = inputs + outputs
    batched = bool(inputs) and all(tensor.shape[:1] == (ANY,) for tensor in tensors)
    warnings: list[Finding] = []
    groups: list[tuple[Profile, ...]] = [(profile,) for profile in profiles]
    if batched:
        groups, left = _group(profiles)
        if groups:
            warnings += [_left_out(name, profile) for profile in left]
        elif left:
            batched, groups = False, [(profile,) for profile in left]
            warnings.append(_no_single_row(name, left))
    if _single(inputs, profiles):
        warnings.append(_one_image(name, inputs))
    alone = len(groups) == 1
    variants = []
    for group in groups:
        own = name if alone else f"{name}#{group[0].index}"
        ranges = tuple(
            ShapeRange(first.min, last.max, last.opt)
            for first, last in zip(group[0].ranges, group[-1].ranges, strict=True)
        )
        most = group[-1].batches[1] if batched else 0
        variants.append(Variant(VariantSpec(own, inputs, outputs, ranges, most), group))
    return tuple(variants), tuple(warnings)


def _group(
    profiles: Sequence[Profile],
) -> tuple[list[tuple[Profile, ...]], list[Profile]]:
    """Profiles that take one row each with those that go on where they end, and the rest."""
    groups: list[list[Profile]] = []
    left: list[Profile] = []
    for profile in sorted(profiles, key=lambda item: item.batches):
        least, most = profile.batches
        if least <= 1:
            groups.append([profile])
            continue
        for group in groups:
            last = group[-1].batches[1]
            if least <= last + 1 and most > last and _rows(group[-1]) == _rows(profile):
                group.append(profile)
                break
        else:
            left.append(profile)
    groups.sort(key=lambda group: group[0].index)
    return [tuple(group) for group in groups], left


def _rows(profile: Profile) -> list[tuple[Shape, Shape]]:
    """The ranges of one row of each input."""
    return [(shapes.min[1:], shapes.max[1:]) for shapes in profile.ranges]


def _single(inputs: Sequence[TensorSpec], profiles: Sequence[Profile]) -> bool:
    """Whether no profile takes more than one image in a run."""
    images = [
        index for index, tensor in enumerate(inputs) if len(tensor.shape) >= _IMAGE_RANK
    ]
    return bool(images) and all(
        profile.ranges[index].max[0] == 1 for profile in profiles for index in images
    )


def _one_image(name: str, inputs: Sequence[TensorSpec]) -> Finding:
    fixed = any(tensor.shape[:1] == (1,) for tensor in inputs)
    why = (
        "its batch dimension is fixed to 1 in the model that it was built from" if fixed
        else "its profiles end at a batch of 1"
    )
    cure = f"Export the model with an open batch dimension (or build with --fix). {REBUILD_BATCH}"
    return Finding(
        "warning", name,
        f"takes one image in a run, so requests are not batched: {why}. TensorRT chooses no batch "
        "size by itself, and max_batch_size is gone with its implicit batches",
        cure if fixed else REBUILD_BATCH,
    )


def _no_single_row(name: str, profiles: Sequence[Profile]) -> Finding:
    least = min(profile.batches[0] for profile in profiles)
    return Finding(
        "warning", name,
        f"takes no fewer than {least} rows in a run, so requests have to bring that many and are "
        "not batched with others", REBUILD_BATCH,
    )


def _left_out(name: str, profile: Profile) -> Finding:
    least, most = profile.batches
    return Finding(
        "warning", name,
        f"profile {profile.index} takes {least} to {most} rows and is not served: no other "
        "profile takes fewer rows of the same shapes", REBUILD_BATCH,
    )
