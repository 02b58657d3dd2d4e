"""What TensorRT's engine inspector writes, made up after its documentation.

None of this comes from a real engine: the inspector needs a GPU that none of the machines had
where these tests were written. Field names, the shape of values and both spellings of formats are
those of the public documentation of TensorRT 10.16 and of 11.3's page on moving from 10 to 11.
"""

SEPARATOR = "\x1f"
"""What stands between the entries of a layer's metadata."""


def metadata(*nodes, separator=SEPARATOR):
    return separator.join(f"[ONNX Layer: {node}]" for node in nodes)


def tensor_10(name, description="Row major linear FP16 format", dims=(8, 64, 56, 56)):
    return {"Name": name, "Location": "Device", "Dimensions": list(dims),
            "Format/Datatype": description}


def tensor_11(name, datatype="Half", layout="Row major linear FP16 format (kLINEAR)",
              dims=(8, 64, 56, 56)):
    return {"Name": name, "Location": "Device", "Dimensions": list(dims),
            "Format": layout, "DataType": datatype}


def layer(name, kind, inputs, outputs, **more):
    return {"Name": name, "LayerType": kind, "Inputs": inputs, "Outputs": outputs,
            "StreamId": 0, "Metadata": "", **more}


CONV_KERNEL = "sm90_xmma_fprop_implicit_gemm_f16f16_f16f32_f32_nhwckrsc_nhwc_tilesize128x64x64"


def reformat_10():
    return layer(
        "Reformatting CopyNode for Input Tensor 0 to /conv1/Conv + /relu1/Relu", "Reformat",
        [tensor_10("x", "Row major linear FP32")],
        [tensor_10("Reformatted Input Tensor 0 to /conv1/Conv + /relu1/Relu",
                   "Channel major FP16 format where channel % 8 == 0")],
        ParameterType="Reformat", Origin="REFORMAT", TacticValue="0x00000000000003e8",
    )


def conv_10(name="/conv1/Conv + /relu1/Relu", tactic=CONV_KERNEL, nodes=(), **more):
    return layer(
        name, "CaskConvolution", [tensor_10("a")], [tensor_10("b")],
        ParameterType="Convolution", Kernel=[3, 3], Weights={"Type": "Half", "Count": 36864},
        Activation="RELU", TacticName=tactic, TacticValue="0x1c23fd3b1a2b5b4a",
        Metadata=metadata(*nodes), **more,
    )


def report_10(*layers):
    return {"Layers": list(layers), "Bindings": ["x", "y"]}


def report_11(*layers, profiles=(((1, 3, 224, 224), (8, 3, 224, 224), (32, 3, 224, 224)),)):
    def io_tensor(name, mode, infos):
        return {"Name": name, "IOMode": mode, "DataType": "Float",
                "Dimensions": [-1, 3, 224, 224], "Location": "Device",
                "IsShapeInferenceIO": False, "ProfileInfo": infos}

    infos = [
        {"MinShape": list(low), "OptShape": list(opt), "MaxShape": list(high),
         "Format": "Row major linear FP32 format (kLINEAR)"}
        for low, opt, high in profiles
    ]
    return {
        "Layers": list(layers),
        "I/O Tensors": [io_tensor("x", "Input", infos), io_tensor("y", "Output", infos)],
    }
