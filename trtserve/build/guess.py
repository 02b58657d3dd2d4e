"""Sizes for the open dimensions of a model that nobody gave sizes for.

A guess by what inputs look like (images, rows of tokens), kept only if ONNX Runtime runs the
model with it: many models have dimensions that are open in the file and fixed by its operators.
"""

from collections.abc import Iterator, Mapping
from contextlib import closing

from trtserve.build.cpu_run import Inputs, Session
from trtserve.build.graph import Graph, GraphTensor
from trtserve.errors import ConfigurationError, ModelLoadError
from trtserve.model.spec import Shape

SizeRange = tuple[int, int, int]
"""One dimension: min, opt, max."""

Place = tuple[str, int]
"""An input's name and a dimension of it."""

PLACEHOLDERS = frozenset({"?", "unk", "unknown", "none", "dynamic", "-1"})
"""What exporters write for "some size", in lower case. TensorRT takes it for one name."""

_IMAGES = ((224, 224), (640, 640), (48, 320), (32, 320), (512, 512))
"""Heights and widths: classifiers, detectors, two kinds of text lines, segmentation."""

_LENGTHS = (128, 64, 16)
"""Everything else that is open: mostly tokens or steps of time."""

_CHANNELS = (1, 3, 4)

_MAX_TRIED = 1 << 30
"""Bytes of a model: larger ones take too long on a CPU to try sizes."""

_ALIGNED = 32
"""Networks that halve an image five times, and add what they had before, need multiples of it."""

_CURE = "Give the sizes that you send with --sizes, or whole shapes with --profile"

Sizes = dict[Place, SizeRange]


def open_dims(tensor: GraphTensor) -> list[int]:
    """The dimensions behind the batch that a request chooses."""
    return [at for at, dim in enumerate(tensor.dims) if at and not isinstance(dim, int)]


def guess_sizes(graph: Graph) -> tuple[Sizes, list[str]]:
    """A range for each open dimension behind the batch, and what it rests on.

    Raises ConfigurationError where no sizes are found that the model runs with.
    """
    if not any(map(open_dims, graph.inputs)):
        return {}, []
    if graph.bytes > _MAX_TRIED:
        return _untried(graph, "the model is too large to try sizes on a CPU")
    try:
        session = Session(graph.model)
    except (ConfigurationError, ModelLoadError) as error:
        return _untried(graph, str(error))
    with closing(session):
        usual = _first_that_runs(session, graph)
        sizes = _widened(session, graph, usual)
    return sizes, [*_explain(sizes), f"The model runs with these sizes, which are guesses. {_CURE}"]


def usual_sizes(graph: Graph) -> dict[Place, int]:
    """The likeliest size of each open dimension behind the batch, not tried."""
    return next(_candidates(graph))


def one_name(graph: Graph, place: Place) -> str | Place:
    """What must have the same size everywhere: a symbol; a place of its own without one."""
    name, at = place
    dim = graph.input(name).dims[at]
    return dim if isinstance(dim, str) and dim.lower() not in PLACEHOLDERS else place


def _untried(graph: Graph, why: str) -> tuple[Sizes, list[str]]:
    usual = usual_sizes(graph)
    sizes = {place: (size, size, size) for place, size in usual.items()}
    return sizes, [*_explain(sizes), f"These sizes are guesses that were not tried: {why}. {_CURE}"]


def _explain(sizes: Sizes) -> Iterator[str]:
    for (name, at), (low, usual, high) in sizes.items():
        text = str(usual) if low == high else f"{low} to {high}, tuned for {usual}"
        yield f"{name}: dimension {at} is {text}"


def _candidates(graph: Graph) -> Iterator[dict[Place, int]]:
    """Sizes for all open dimensions, the likeliest first."""
    images: dict[str | Place, int] = {}
    others: dict[str | Place, None] = {}
    for tensor in graph.inputs:
        sides = _image_sides(tensor)
        for at in open_dims(tensor):
            key = one_name(graph, (tensor.name, at))
            if at in sides:
                images.setdefault(key, sides.index(at))
            else:
                others[key] = None
    for pair in _IMAGES if images else _IMAGES[:1]:
        for length in _LENGTHS if others else _LENGTHS[:1]:
            by_name = dict.fromkeys(others, length) | {
                key: pair[side] for key, side in images.items()
            }
            yield {
                (tensor.name, at): by_name[one_name(graph, (tensor.name, at))]
                for tensor in graph.inputs
                for at in open_dims(tensor)
            }


def _image_sides(tensor: GraphTensor) -> tuple[int, ...]:
    """The dimensions that are height and width; () where it is no image."""
    if len(tensor.dims) != 4:
        return ()
    # With the channels last only where they are fixed there, and nothing fixed is in front.
    last = tensor.dims[3] in _CHANNELS and not isinstance(tensor.dims[1], int)
    return (1, 2) if last else (2, 3)


def _first_that_runs(session: Session, graph: Graph) -> dict[Place, int]:
    tried = []
    for sizes in _candidates(graph):
        why = _refusal(session, graph, sizes)
        if not why:
            return sizes
        tried.append(why)
    raise ConfigurationError(
        f"no sizes were found that the model runs with; the first try: {tried[0]}",
        where=str(graph.path), cure=_CURE,
    )


def _widened(session: Session, graph: Graph, usual: Mapping[Place, int]) -> Sizes:
    """Each dimension as far around its usual size as the model goes alone, and all together."""
    low, high = dict(usual), dict(usual)
    names: dict[str | Place, list[Place]] = {}
    for place in usual:
        names.setdefault(one_name(graph, place), []).append(place)
    for places in names.values():
        size = usual[places[0]]
        sides = _image_sides(graph.input(places[0][0]))
        less, more = _around(size, image=places[0][1] in sides)
        for found, other in ((low, less), (high, more)):
            changed = dict.fromkeys(places, other)
            if not _refusal(session, graph, {**usual, **changed}):
                found.update(changed)
    for found in (low, high):
        if _refusal(session, graph, found):
            found.update(usual)
    return {place: (low[place], size, high[place]) for place, size in usual.items()}


def _around(size: int, *, image: bool) -> tuple[int, int]:
    """The smallest and the largest size to try around a usual one.

    Sixteen times as many elements at most: a wider range costs speed.
    """
    if not image:
        return max(size // 4, 1), size * 4
    half = size // 2
    return (half if half < _ALIGNED else -(-half // _ALIGNED) * _ALIGNED), size * 2


def _refusal(session: Session, graph: Graph, sizes: Mapping[Place, int]) -> str:
    """Why the model does not run with these sizes, for one image; empty: it does."""
    try:
        session.run(Inputs().make(graph.inputs, whole_shapes(graph, sizes)))
    except ModelLoadError as error:
        return str(error)
    return ""


def whole_shapes(graph: Graph, sizes: Mapping[Place, int], rows: int = 1) -> dict[str, Shape]:
    """The inputs' shapes with these sizes and, where the batch is open, that many rows."""
    return {
        tensor.name: tuple(
            dim if isinstance(dim, int) else rows if at == 0 else sizes[tensor.name, at]
            for at, dim in enumerate(tensor.dims)
        )
        for tensor in graph.inputs
    }

