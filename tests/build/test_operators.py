import onnx
import tensorrt_rtx

from trtserve.build.messages import message_log
from trtserve.build.operators import OPSETS, UNSUPPORTED

NOT_IN_RTX = {"DeformConv"}
"""TensorRT takes these with a plugin of its own, which TensorRT-RTX lacks."""


def test_the_table_is_what_the_parser_says():
    log = message_log(tensorrt_rtx)
    parser = tensorrt_rtx.OnnxParser(tensorrt_rtx.Builder(log).create_network(0), log)
    standard = {schema.name for schema in onnx.defs.get_all_schemas() if not schema.domain}
    refused = {name for name in standard if not parser.supports_operator(name)}
    assert refused - NOT_IN_RTX == UNSUPPORTED.keys() & standard


def test_each_has_a_cure():
    assert all(UNSUPPORTED.values())
    assert OPSETS[0] < OPSETS[1]
