"""Small ONNX models for tests and benchmarks, written to a path.

Needs the package onnx (extra `test`), which only these functions import. A dimension given as a
string is a symbol: a size that the request chooses.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import ml_dtypes
import numpy as np

from trtserve.model.tensor import DATATYPES

Dims = Sequence[int | str | None]

_OPSET, _IR_VERSION = 17, 8
"""Old enough for every ONNX Runtime that is supported."""


def make_identity(path: str, shape: Dims = ("N", 16), datatype: str = "FP32") -> None:
    """y = x. With a first dimension of 1: an engine that takes one image only."""
    save(path, [node("Identity", ["x"], ["y"])], {"x": (datatype, shape)},
         {"y": (datatype, shape)})


def make_add(path: str, value: float, shape: Dims = ("N", 16), datatype: str = "FP32") -> None:
    """y = x + value."""
    save(path, [node("Add", ["x", "value"], ["y"])], {"x": (datatype, shape)},
         {"y": (datatype, shape)}, {"value": np.array(value, DATATYPES[datatype].numpy)})


def make_cast(path: str, source: str, target: str, shape: Dims = ("N", 16)) -> None:
    """y = x as another datatype."""
    save(path, [node("Cast", ["x"], ["y"], to=_element(target))], {"x": (source, shape)},
         {"y": (target, shape)})


def make_matmul(path: str, inner: int, columns: int, seed: int = 0) -> None:
    """y[N, columns] = x[N, inner] @ w, for a fixed random w."""
    weights = np.random.default_rng(seed).standard_normal((inner, columns), np.float32)
    save(path, [node("MatMul", ["x", "w"], ["y"])], {"x": ("FP32", ("N", inner))},
         {"y": ("FP32", ("N", columns))}, {"w": weights})


def make_product(path: str) -> None:
    """y = a[N, K] @ b[M, L]: fails unless K is M, which the shapes do not tell."""
    save(path, [node("MatMul", ["a", "b"], ["y"])],
         {"a": ("FP32", ("N", "K")), "b": ("FP32", ("M", "L"))}, {"y": ("FP32", ("N", "L"))})


def make_nonzero(path: str) -> None:
    """y = the positions of what is not zero in x[N, M]: its size depends on the data."""
    save(path, [node("NonZero", ["x"], ["y"])], {"x": ("FP32", ("N", "M"))},
         {"y": ("INT64", (2, "K"))})


def make_appended(path: str) -> None:
    """y = x[N, 16] and one row of zeros more, declared as [N, 16]: a wrong declaration."""
    save(path, [node("Concat", ["x", "row"], ["y"], axis=0)], {"x": ("FP32", ("N", 16))},
         {"y": ("FP32", ("N", 16))}, {"row": np.zeros((1, 16), np.float32)})


def save(
    path: str,
    nodes: Sequence[Any],
    inputs: Mapping[str, tuple[str, Dims]],
    outputs: Mapping[str, tuple[str, Dims]],
    weights: Mapping[str, np.ndarray[Any, Any]] | None = None,
) -> None:
    """Write a model of these nodes. Inputs and outputs are (datatype, dimensions) by name."""
    import onnx
    from onnx import helper

    def infos(tensors: Mapping[str, tuple[str, Dims]]) -> list[Any]:
        return [
            helper.make_tensor_value_info(name, _element(datatype), list(dims))
            for name, (datatype, dims) in tensors.items()
        ]

    initializers = [
        helper.make_tensor(name, _element_of(array), array.shape, array.tobytes(), raw=True)
        for name, array in (weights or {}).items()
    ]
    graph = helper.make_graph(nodes, "model", infos(inputs), infos(outputs), initializers)
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR_VERSION
    )
    onnx.save(model, path)


def node(operator: str, inputs: list[str], outputs: list[str], **attributes: Any) -> Any:
    """One operator of a model."""
    from onnx import helper

    return helper.make_node(operator, inputs, outputs, **attributes)


def _element(datatype: str) -> int:
    """ONNX's number for a datatype."""
    from onnx import TensorProto, helper

    if datatype == "BYTES":
        return int(TensorProto.STRING)
    if datatype == "BF16":
        return int(TensorProto.BFLOAT16)
    return int(helper.np_dtype_to_tensor_dtype(DATATYPES[datatype].numpy))


def _element_of(array: np.ndarray[Any, Any]) -> int:
    if array.dtype == ml_dtypes.bfloat16:
        return _element("BF16")
    from onnx import helper

    return int(helper.np_dtype_to_tensor_dtype(array.dtype))
