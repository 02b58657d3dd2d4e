"""What TensorRT's ONNX parser takes, as its public documentation has it.

The operators of ONNX that it does not take, the opsets, and the datatypes at a network's border.
Version by version this changes; the parser that is installed has the last word.
"""

OPSETS = (9, 25)
"""The opsets that TensorRT 11 promises to take. Older and newer files often parse too."""

BORDER_DATATYPES = frozenset(
    {"FP32", "FP16", "BF16", "INT64", "INT32", "INT8", "UINT8", "BOOL", "FP64"}
)
"""What inputs and outputs can be. FP64 is taken and becomes FP32."""

_ARITHMETIC = "Export the model without integer arithmetic; quantized models carry " \
    "QuantizeLinear and DequantizeLinear around operators in floating point"
_SEQUENCES = "Export the model with tensors where it has lists of tensors or optional ones"
_TRAINING = "Export the model for inference: losses and random draws are for training"
_TEXT = "Do the work on text before the request, outside of the model"
_BITS = "Express it by integer arithmetic (Mul, Div, Mod), or do it outside of the model"
_OUTSIDE = "Do this step before or after the model, or serve the ONNX file itself"

UNSUPPORTED: dict[str, str] = {
    # Operator: what to do instead.
    "AffineGrid": "Compute the grid outside of the model; GridSample itself is taken",
    "Bernoulli": _TRAINING,
    "BitCast": _BITS,
    "BitShift": _BITS,
    "BitwiseAnd": _BITS,
    "BitwiseNot": _BITS,
    "BitwiseOr": _BITS,
    "BitwiseXor": _BITS,
    "CenterCropPad": "Export it as Slice and Pad",
    "Col2Im": "Export it as ConvTranspose, or as Reshape and Transpose where patches do not "
              "overlap",
    "Compress": "Export it as NonZero and Gather",
    "ConcatFromSequence": _SEQUENCES,
    "ConvInteger": _ARITHMETIC,
    "CumProd": _OUTSIDE,
    "DFT": "Export it as a product with a constant matrix, or do it outside of the model",
    "Det": _OUTSIDE,
    "DynamicQuantizeLinear": _ARITHMETIC,
    "ImageDecoder": "Decode images before the request",
    "MatMulInteger": _ARITHMETIC,
    "MaxRoiPool": "Export it as RoiAlign",
    "MaxUnpool": "Export it as Resize or ConvTranspose",
    "MelWeightMatrix": "Fold it: it is a constant",
    "Multinomial": _TRAINING,
    "NegativeLogLikelihoodLoss": _TRAINING,
    "Optional": _SEQUENCES,
    "OptionalGetElement": _SEQUENCES,
    "OptionalHasElement": _SEQUENCES,
    "QLinearConv": _ARITHMETIC,
    "QLinearMatMul": _ARITHMETIC,
    "RegexFullMatch": _TEXT,
    "SequenceAt": _SEQUENCES,
    "SequenceConstruct": _SEQUENCES,
    "SequenceEmpty": _SEQUENCES,
    "SequenceErase": _SEQUENCES,
    "SequenceInsert": _SEQUENCES,
    "SequenceLength": _SEQUENCES,
    "SequenceMap": _SEQUENCES,
    "SoftmaxCrossEntropyLoss": _TRAINING,
    "SplitToSequence": _SEQUENCES,
    "StringConcat": _TEXT,
    "StringNormalizer": _TEXT,
    "StringSplit": _TEXT,
    "TfIdfVectorizer": _TEXT,
    "Unique": _OUTSIDE,
}
"""ONNX's own operators that no version of the parser takes."""
