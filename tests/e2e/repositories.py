"""Model repositories for the daemon, made of the small models of trtserve.testing."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from trtserve.testing import models
from trtserve.testing.models import node, save

WORK_SIDE = 192
"""Of the matrices that the model `work` multiplies: a step takes 0.02 to 0.2 ms on one core."""

WORK_LEAST = 32
"""Steps that it takes in any case: together too long for a worker to run it between messages."""


def add_model(
    repository: Path, name: str, make: Callable[[str], None], *, config: str = "",
    file: str = "model.onnx",
) -> None:
    """Put a model, or one more file of it, into a repository, as version 1."""
    folder = repository / name / "1"
    folder.mkdir(parents=True, exist_ok=True)
    make(str(folder / file))
    if config:
        (repository / name / "config.pbtxt").write_text(config)


def add_plus(repository: Path, name: str = "plus", value: float = 1.0, config: str = "") -> None:
    """y = x + value, for x FP32[N, M]: an answer that is not its question's shows."""
    add_model(
        repository, name, lambda path: models.make_add(path, value, ("N", "M")), config=config
    )


def swap_plus(repository: Path, value: float, name: str = "plus") -> None:
    """Let the file of such a model add another value: by a rename, as careful operators copy."""
    version = repository / name / "1"
    models.make_add(str(version / ".new"), value, ("N", "M"))
    os.replace(version / ".new", version / "model.onnx")


def add_work(repository: Path, name: str = "work", config: str = "") -> None:
    """y = x + 1, after so many steps as `steps` INT64[1] says: takes as long as a test wants."""
    add_model(repository, name, _make_work, config="max_batch_size: 0\n" + config)


def add_look_up(repository: Path, name: str = "look_up", config: str = "") -> None:
    """y[N, 1] = table[x[N, 1]] of 10 entries, squares: fails for an index out of range."""
    table = np.arange(10, dtype=np.float32) ** 2

    def make(path: str) -> None:
        save(path, [node("Gather", ["table", "x"], ["y"])], {"x": ("INT64", ("N", 1))},
             {"y": ("FP32", ("N", 1))}, {"table": table})

    add_model(repository, name, make, config=config)


def _make_work(path: str) -> None:
    """A loop over a matrix product, with the trip count as an input."""
    from onnx import TensorProto, helper

    side = WORK_SIDE
    matrix = [side, side]

    def info(name: str, element: int, shape: list[int]) -> object:
        return helper.make_tensor_value_info(name, element, shape)

    body = helper.make_graph(
        [node("MatMul", ["state", "weights"], ["next"]),
         node("Identity", ["going"], ["still"])],
        "body",
        [info("step", TensorProto.INT64, []), info("going", TensorProto.BOOL, []),
         info("state", TensorProto.FLOAT, matrix)],
        [info("still", TensorProto.BOOL, []), info("next", TensorProto.FLOAT, matrix)],
    )
    nodes = [
        node("Squeeze", ["steps"], ["wanted"]),
        node("Add", ["wanted", "least"], ["trips"]),
        node("Loop", ["trips", "", "weights"], ["product"], body=body),
        # The product is all zeros, but only who computes it knows.
        node("ReduceMax", ["product"], ["most"], keepdims=0),
        node("Add", ["x", "one"], ["more"]),
        node("Add", ["more", "most"], ["y"]),
    ]
    save(
        path, nodes, {"x": ("FP32", (16,)), "steps": ("INT64", (1,))}, {"y": ("FP32", (16,))},
        {"weights": np.zeros(matrix, np.float32), "one": np.array(1, np.float32),
         "least": np.array(WORK_LEAST, np.int64)},
    )
