"""Makes ONNX Runtime round to FP16 on a CPU as a GPU does.

It has hardly any kernels for FP16 there: it runs most operators in FP32 and drops the conversions
between them, so that an FP16 model looks better than it is and never overflows. An operator that
only passes tensors on exists for FP16 too: behind every result, it makes the rounding real.
"""

from typing import Any

import numpy as np

from trtserve.build.graph import copied, import_onnx

_PASSING = frozenset({
    "Cast", "Concat", "Constant", "Expand", "Flatten", "Gather", "Identity", "Reshape", "Slice",
    "Split", "Squeeze", "Transpose", "Unsqueeze",
})
"""These compute nothing."""

_AXES_ARE_INPUTS = 13
"""The opset from which Squeeze and Unsqueeze take their axes as a tensor."""


def rounded_to_fp16(model: Any) -> Any:
    """A copy for ONNX Runtime on a CPU in which every FP16 result is one."""
    onnx = import_onnx()
    inferred = onnx.shape_inference.infer_shapes(model)
    half = {
        value.name
        for value in (*inferred.graph.value_info, *inferred.graph.output)
        if value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT16
    }
    if not half:
        return model
    copy = copied(model)
    opset = max(one.version for one in copy.opset_import if one.domain in ("", "ai.onnx"))
    taken = {tensor.name for tensor in model.graph.initializer}
    taken |= {name for node in model.graph.node for name in node.output}
    axis = _unused("first_axis", taken)
    axes = [axis] if opset >= _AXES_ARE_INPUTS else []
    if axes:
        copy.graph.initializer.append(
            onnx.numpy_helper.from_array(np.array([0], np.int64), axis)
        )
    rest = {} if axes else {"axes": [0]}
    nodes = []
    for node in model.graph.node:
        one = onnx.NodeProto()
        one.CopyFrom(node)
        nodes.append(one)
        for at, name in enumerate(node.output):
            if name in half and node.op_type not in _PASSING:
                raw, lifted = _unused(f"{name}_raw", taken), _unused(f"{name}_lifted", taken)
                one.output[at] = raw
                nodes.append(onnx.helper.make_node("Unsqueeze", [raw, *axes], [lifted], **rest))
                nodes.append(onnx.helper.make_node("Squeeze", [lifted, *axes], [name], **rest))
    del copy.graph.node[:]
    copy.graph.node.extend(nodes)
    return copy


def _unused(wanted: str, taken: set[str]) -> str:
    """A name like this one, which is taken from now on."""
    while wanted in taken:
        wanted += "_"
    taken.add(wanted)
    return wanted
