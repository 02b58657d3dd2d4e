"""What TensorRT's engine inspector writes, read from its JSON.

TensorRT 10 lists `Bindings` by name and describes a tensor in one text, `Format/Datatype`; 11
lists `I/O Tensors` with their profiles, and has `Format` and `DataType` apart. How much there is
of a layer depends on the profiling verbosity that the plan was built with.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from trtserve.build.explain.explanation import LayerInfo, Note, Port

DETAILED_CURE = (
    "Build with the profiling verbosity DETAILED: `trtserve build` does, trtexec does with "
    "--profilingVerbosity=detailed"
)

# An ONNX node's name may have brackets in it: the entry ends where the next begins.
_SOURCE = re.compile(r"\[ONNX Layer: (.*?)\](?=[\x1e\x1f\s]*(?:\[ONNX Layer: |$))", re.S)
_PROFILE = re.compile(r" \[profile (\d+)\]$")
_POINTWISE = re.compile(r"PWN\(|\)+$")

# Datatypes in both of TensorRT's spellings, and in its descriptions of formats.
_DATATYPES = {
    "float": "FP32", "fp32": "FP32", "half": "FP16", "fp16": "FP16", "bfloat16": "BF16",
    "bf16": "BF16", "fp8": "FP8", "fp4": "FP4", "int4": "INT4", "int8": "INT8", "int32": "INT32",
    "int64": "INT64", "uint8": "UINT8", "bool": "BOOL", "e8m0": "E8M0",
}
_DATATYPE = re.compile(rf"\b({'|'.join(_DATATYPES)})\b", re.I)

# The names of kernels tell what they compute in. The first that is found decides.
_TACTICS = (
    ("INT8", re.compile(r"i8i8|int8|s8s8")),
    ("FP8", re.compile(r"e4m3|fp8")),
    ("BF16", re.compile(r"bf16")),
    ("TF32", re.compile(r"tf32")),
    ("FP16", re.compile(r"f16f16|h884|h1688|h16816|fp16|hgemm")),
    ("FP32", re.compile(r"f32f32|sgemm|scudnn|fp32")),
)

_UNKNOWN_FORMAT = "N/A"


class LayerReport(msgspec.Struct, frozen=True):
    """The layers of one profile, in the order in which they run.

    `profiles` is how many the report tells apart; 1 if it does not. `detailed`: there is more
    than names.
    """

    layers: tuple[LayerInfo, ...]
    profiles: int
    detailed: bool
    notes: tuple[Note, ...]


def read_report(report: Mapping[str, Any], profile: int = 0) -> LayerReport:
    """Read the inspector's JSON. Whatever is missing in it is a note."""
    found = report.get("Layers")
    entries: Sequence[Any] = found if isinstance(found, list) else ()
    numbered = [(_profile_of(entry), entry) for entry in entries]
    profiles = 1 + max((index or 0 for index, _ in numbered), default=0)
    # Layers without a number are the first profile's, or everybody's where none has one.
    wanted = profile if profiles > 1 else 0
    chosen = [entry for index, entry in numbered if (index or 0) == wanted]
    detailed = any(isinstance(entry, dict) for entry in chosen)
    layers = tuple(
        _layer(entry) if isinstance(entry, dict) else _named(str(entry)) for entry in chosen
    )
    notes = tuple(_notes(report, layers, detailed=detailed))
    return LayerReport(layers, profiles, detailed, notes)


def read_times(profile: object) -> dict[str, float]:
    """Milliseconds by a layer's name, from what trtexec --exportProfile writes.

    A list whose first entry only counts the runs. Raises ValueError for anything else.
    """
    if not isinstance(profile, list):
        raise ValueError("it is no list")
    times: dict[str, float] = {}
    for entry in profile:
        if isinstance(entry, dict) and "name" in entry:
            milliseconds = entry.get("averageMs", entry.get("timeMs"))
            if not isinstance(milliseconds, int | float):
                raise ValueError(f"layer '{entry['name']}' has no averageMs")
            times[str(entry["name"])] = times.get(str(entry["name"]), 0.0) + milliseconds
    if not times:
        raise ValueError("no entry of it has a name")
    return times


def is_report(value: object) -> bool:
    """Whether JSON is what the inspector writes."""
    return isinstance(value, dict) and isinstance(value.get("Layers"), list)


def sources(name: str, metadata: str = "") -> tuple[str, ...]:
    """What was fused into a layer: from its metadata, or else from its name `a + b`."""
    found = _SOURCE.findall(metadata)
    if not found and not _is_reformat(name, "") and not name.startswith("__my"):
        # PWN(a, b): pointwise operators. {ForeignNode[a...b]}: a range, whose ends are told.
        for part in name.split(" + "):
            found += [_POINTWISE.sub("", piece) for piece in part.split(", ")]
    return tuple(dict.fromkeys(piece for piece in found if piece))


def _notes(
    report: Mapping[str, Any], layers: Sequence[LayerInfo], *, detailed: bool
) -> Iterator[Note]:
    if "unparsed" in report:
        yield Note("the inspector's report is no JSON that is known here", "Update trtserve")
        return
    if not layers:
        yield Note("the plan was built to tell nothing of its layers", DETAILED_CURE)
        return
    if not detailed:
        yield Note(
            "of the layers there are only names: no tactics, precisions, formats and shapes",
            DETAILED_CURE,
        )
        return
    ports = [port for layer in layers for port in (*layer.inputs, *layer.outputs)]
    if ports and not any(port.format for port in ports):
        yield Note(
            "the formats of tensors are open: the inspector had no context with known shapes",
            "Ask it with a context whose profile and input shapes are set; trtexec "
            "--exportLayerInfo with --shapes does",
        )


def _profile_of(entry: object) -> int | None:
    name = entry.get("Name", "") if isinstance(entry, dict) else entry
    found = _PROFILE.search(str(name))
    return int(found[1]) if found else None


def _named(name: str) -> LayerInfo:
    """A layer of which only the name is known."""
    plain = _PROFILE.sub("", name)
    reformat = _is_reformat(plain, "")
    kind = "Reformat" if reformat else ""
    return LayerInfo(name=name, kind=kind, fused=sources(plain), reformat=reformat)


def _layer(entry: Mapping[str, Any]) -> LayerInfo:
    name, kind = str(entry.get("Name", "")), str(entry.get("LayerType", ""))
    inputs, outputs = _ports(entry.get("Inputs")), _ports(entry.get("Outputs"))
    tactic = str(entry.get("TacticName") or entry.get("TacticValue") or "")
    reformat = _is_reformat(name, kind)
    fused = () if reformat else sources(_PROFILE.sub("", name), str(entry.get("Metadata") or ""))
    return LayerInfo(
        name=name,
        kind=kind,
        fused=fused,
        tactic=tactic,
        precision=_precision(entry, inputs, outputs, tactic, reformat=reformat),
        inputs=inputs,
        outputs=outputs,
        reformat=reformat,
    )


def _is_reformat(name: str, kind: str) -> bool:
    return kind == "Reformat" or name.startswith("Reformatting CopyNode")


def _ports(entries: object) -> tuple[Port, ...]:
    if not isinstance(entries, list):
        return ()
    return tuple(_port(entry) for entry in entries if isinstance(entry, dict))


def _port(entry: Mapping[str, Any]) -> Port:
    both = str(entry.get("Format/Datatype") or "")
    layout = str(entry.get("Format") or both)
    datatype = str(entry.get("DataType") or entry.get("Datatype") or both)
    dims = entry.get("Dimensions")
    shape = "[" + ", ".join(map(str, dims)) + "]" if isinstance(dims, list) else ""
    return Port(
        str(entry.get("Name", "")), _datatype(datatype),
        "" if layout.startswith(_UNKNOWN_FORMAT) else layout, shape,
    )


def _datatype(text: str) -> str:
    found = _DATATYPE.search(text)
    return _DATATYPES[found[1].lower()] if found else ""


def _precision(
    entry: Mapping[str, Any], inputs: Sequence[Port], outputs: Sequence[Port], tactic: str,
    *, reformat: bool,
) -> str:
    """What a layer computes in: what its weights are, or else what it reads, or its kernel."""
    weights = entry.get("Weights")
    typed = _datatype(str(weights.get("Type", ""))) if isinstance(weights, dict) else ""
    ports = (*outputs, *inputs) if reformat else (*inputs, *outputs)
    read = next((port.datatype for port in ports if port.datatype), "")
    kernel = next((name for name, mark in _TACTICS if mark.search(tactic.lower())), "")
    found = typed or read or kernel
    # FP32 tensors may be multiplied with fewer digits, which only the kernel's name tells.
    return kernel if found == "FP32" and kernel == "TF32" else found
