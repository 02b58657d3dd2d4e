import shlex

import msgspec
import pytest

from tests.model.test_plan_manifest import FULL
from trtserve.model.plan_fit import check_manifest, rebuild_command
from trtserve.model.plan_manifest import PlanOptions, PlanRequest

SHA = FULL.plan_sha256


def built(module="tensorrt", version="11.4.0.106", **options):
    return msgspec.structs.replace(
        FULL, module=module, module_version=version, gpu=FULL.gpu if module == "tensorrt" else None,
        request=msgspec.structs.replace(FULL.request, options=PlanOptions(**options)),
    )


def problems(manifest, module="tensorrt", version="11.4.0.106", capability="9.0",
             gpu="NVIDIA H200", sha=SHA):
    return check_manifest(
        manifest, sha, module=module, version=version, compute_capability=capability, gpu=gpu
    )


def test_a_plan_fits_where_it_was_built():
    assert problems(built()) == []


def test_a_plan_is_the_one_that_the_manifest_describes():
    (problem,) = problems(built(), sha="00" * 32)
    assert "SHA-256" in problem
    assert SHA[:12] in problem


def test_all_that_is_wrong_is_told_at_once():
    found = problems(built(), version="11.5.0.1", capability="8.9", gpu="NVIDIA L4", sha="0")
    assert len(found) == 3


def test_what_is_not_known_here_is_not_compared():
    assert problems(built(), None, None, None, None) == []
    assert problems(built(), version=None) == []


@pytest.mark.parametrize(
    ("version", "compatible", "here", "fits"),
    [
        ("11.4.0.106", False, "11.4.0.106", True),
        ("11.4.0.106", False, "11.4.1.2", False),
        ("11.4.0.106", True, "11.5.0.1", True),
        ("11.4.0.106", True, "11.3.0.1", False),  # forward only
        ("10.13.0.1", True, "11.4.0.106", True),
        ("8.6.1.6", True, "10.0.0.1", True),
        ("8.6.1.6", True, "11.4.0.106", False),
        ("10.13.0.1", True, "12.0.0.1", False),
    ],
)
def test_versions(version, compatible, here, fits):
    found = problems(built(version=version, version_compatible=compatible), version=here)
    assert (found == []) == fits
    if not fits:
        assert version in found[0]
        assert here in found[0]


@pytest.mark.parametrize(
    ("module", "here", "options", "word"),
    [
        ("tensorrt", "tensorrt_rtx", {}, "TensorRT-RTX is what runs here"),
        ("tensorrt_rtx", "tensorrt", {}, "it was built with TensorRT-RTX"),
        ("tensorrt", "tensorrt_lean", {}, "version-compatible plans only"),
        ("tensorrt", "tensorrt_lean", {"version_compatible": True}, ""),
        ("tensorrt_rtx", "tensorrt_rtx", {}, ""),
    ],
)
def test_modules(module, here, options, word):
    found = problems(built(module, **options), here, capability=None)
    assert [word in problem for problem in found] == ([True] if word else [])


@pytest.mark.parametrize(
    ("level", "capability", "gpu", "fits"),
    [
        ("none", "9.0", "NVIDIA H200", True),
        ("none", "9.0", "NVIDIA H100 PCIe", False),  # other units, other timings
        ("none", "9.0", None, True),
        ("none", "8.9", "NVIDIA L4", False),
        ("same_compute_capability", "9.0", "NVIDIA H100 PCIe", True),
        ("same_compute_capability", "8.9", "NVIDIA L4", False),
        ("ampere_plus", "8.0", "NVIDIA A100", True),
        ("ampere_plus", "12.0", "NVIDIA B200", True),
        ("ampere_plus", "7.5", "Tesla T4", False),
    ],
)
def test_gpus(level, capability, gpu, fits):
    found = problems(built(hardware_compatibility=level), capability=capability, gpu=gpu)
    assert (found == []) == fits
    if not fits:
        assert gpu in found[0]


@pytest.mark.parametrize(
    ("names", "capability", "fits"),
    [
        ((), "8.0", True),
        ((), "8.6", True),
        ((), "8.9", True),
        ((), "12.0", True),
        ((), "12.1", True),
        ((), "7.5", False),
        ((), "9.0", False),
        (("SM75", "SM120"), "7.5", True),
        (("SM75", "SM120"), "12.0", True),
        (("SM75", "SM120"), "8.6", False),
    ],
)
def test_compute_capabilities_of_rtx(names, capability, fits):
    found = problems(
        built("tensorrt_rtx", compute_capabilities=names), "tensorrt_rtx", capability=capability
    )
    assert (found == []) == fits


def test_the_rebuild_command_asks_for_the_same_again():
    assert rebuild_command(FULL) == (
        "trtserve build /onnx/m.onnx --repository /models --name m --version 3 --sizes 160,224 "
        "--batch 1,8,32 --split --precision fp16 --fix --level 5 --workspace 512 "
        "--module tensorrt --force"
    )


def test_the_rebuild_command_has_every_option():
    request = PlanRequest(
        model="my model.onnx", profiles=("x=1x3,8x3,32x3;y=1", "x=1x4"), samples="s.npz",
        precision="int8", options=PlanOptions(
            level=0, version_compatible=True, hardware_compatibility="ampere_plus",
            compute_capabilities=("SM86", "SM120"),
        ),
    )
    words = shlex.split(rebuild_command(msgspec.structs.replace(FULL, request=request)))
    assert words == [
        "trtserve", "build", "my model.onnx", "--repository", "/models", "--name", "m",
        "--version", "3", "--profile", "x=1x3,8x3,32x3;y=1", "--profile", "x=1x4",
        "--precision", "int8", "--samples", "s.npz", "--level", "0", "--version-compatible",
        "--hardware-compatibility", "ampere_plus", "--compute-capability", "SM86,SM120",
        "--module", "tensorrt", "--force",
    ]


@pytest.mark.parametrize(
    ("plan", "place"),
    [
        ("/srv/other/net/7/224.plan", ["/srv/other", "net", "7"]),
        ("net/7/224.plan", [".", "net", "7"]),
        ("224.plan", ["/models", "m", "3"]),
        ("/somewhere/else/224.plan", ["/models", "m", "3"]),
    ],
)
def test_the_rebuild_command_is_for_where_the_plan_lies_now(plan, place):
    words = shlex.split(rebuild_command(FULL, plan))
    assert [words[4], words[6], words[8]] == place
