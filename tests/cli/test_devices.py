"""Which devices the daemon has: the table of what is wanted, there, and installed."""

from pathlib import Path

import msgspec
import pytest

from trtserve.cli.devices import (
    Installed,
    Unused,
    choose,
    choose_front_ends,
    decide,
    some_model_asks_for_cpu,
)
from trtserve.config import Settings
from trtserve.device.probe import CudaFacts, Probe
from trtserve.errors import ConfigurationError


def facts(index: int) -> CudaFacts:
    return CudaFacts(index, "NVIDIA H200", "9.0", 150_000_000_000, 0, f"0000:0{index}:00.0")


NONE = Probe(problem="there is no NVIDIA driver. Install driver 580 or newer")
ONE = Probe((facts(0),), "13.0", "13.3")
TWO = Probe((facts(0), facts(1)), "13.0", "13.3")
CUDA = Installed("1.31.1", ("CUDAExecutionProvider", "CPUExecutionProvider"))
CPU_ONLY = Installed("1.32.0", ("CPUExecutionProvider",))
NOTHING = Installed()

H200 = "NVIDIA H200 (compute capability 9.0, 139.7 GiB, driver 13.0)"
LACKS = "ONNX Runtime 1.32.0 has no CUDA provider. Install it with: pip install 'trtserve[cuda]'"


@pytest.mark.parametrize(("wanted", "probe", "installed", "wants_cpu", "devices"), [
    ("auto", NONE, CPU_ONLY, False, "cpu"),
    ("auto", NONE, CPU_ONLY, True, "cpu"),
    ("auto", NONE, CUDA, False, "cpu"),
    ("auto", Probe(), CUDA, False, "cpu"),
    ("auto", TWO, CPU_ONLY, False, "cpu"),
    ("auto", TWO, NOTHING, False, "cpu"),
    ("auto", ONE, CUDA, False, "cuda:0"),
    ("auto", ONE, CUDA, True, "cpu,cuda:0"),
    ("auto", TWO, CUDA, False, "cuda:0,cuda:1"),
    ("all", NONE, CPU_ONLY, False, "cpu"),
    ("all", TWO, CUDA, False, "cpu,cuda:0,cuda:1"),
    ("all", TWO, CPU_ONLY, False, "cpu"),
    ("cpu", TWO, CUDA, True, "cpu"),
    ("cpu", Probe(), NOTHING, False, "cpu"),
    ("cuda:1", TWO, CUDA, True, "cuda:1"),
    ("cuda:1,cuda:0", TWO, CUDA, False, "cuda:1,cuda:0"),
    ("cpu,cuda:0", ONE, CUDA, False, "cpu,cuda:0"),
])
def test_the_devices_that_are_chosen(wanted, probe, installed, wants_cpu, devices):
    choice = choose(wanted, probe, installed, wants_cpu=wants_cpu)
    assert ",".join(choice.devices) == devices


@pytest.mark.parametrize(("wanted", "probe", "installed", "problem", "cure"), [
    ("cuda:0", NONE, CUDA, "cuda:0 can not be used: there is no NVIDIA driver",
     "Install driver 580 or newer"),
    ("cpu,cuda:0", Probe(problem="it is broken"), CUDA, "cuda:0 can not be used: it is broken",
     "Use --devices auto, or cpu"),
    ("cuda:0", Probe(), CUDA, "cuda:0 can not be used: no CUDA device is visible",
     "Use --devices auto, or cpu"),
    ("cuda:0,cuda:2", TWO, CUDA, "cuda:2 can not be used: there is no such device",
     "There is cpu, cuda:0, cuda:1"),
    ("cuda:0", ONE, CPU_ONLY, "cuda:0 can not be used: ONNX Runtime 1.32.0 has no CUDA provider",
     "Install it with: pip install 'trtserve[cuda]'"),
    ("cuda:0", ONE, NOTHING, "cuda:0 can not be used: ONNX Runtime is not installed",
     "Install it with: pip install 'trtserve[cuda]'"),
])
def test_what_is_named_and_can_not_be_used_is_an_error(wanted, probe, installed, problem, cure):
    with pytest.raises(ConfigurationError) as caught:
        choose(wanted, probe, installed, wants_cpu=False)
    assert (caught.value.where, caught.value.problem, caught.value.cure) == (
        "devices", problem, cure
    )


@pytest.mark.parametrize(("wanted", "probe", "installed", "line"), [
    ("auto", NONE, CPU_ONLY,
     "cpu (no CUDA device: there is no NVIDIA driver. Install driver 580 or newer)"),
    ("auto", ONE, CUDA, f"cuda:0 {H200}, ONNX Runtime 1.31.1 CUDA"),
    ("all", TWO, CUDA, f"cpu, cuda:0 {H200}, cuda:1 {H200}, ONNX Runtime 1.31.1 CUDA"),
    ("auto", ONE, CPU_ONLY, f"cpu (not used: cuda:0: {LACKS})"),
    ("cuda:1", TWO, CUDA,
     f"cuda:1 {H200}, ONNX Runtime 1.31.1 CUDA (not used: cuda:0: --devices does not name it)"),
    ("cpu", Probe(), CPU_ONLY, "cpu"),
])
def test_one_line_says_what_was_chosen_and_why_not_the_rest(wanted, probe, installed, line):
    assert choose(wanted, probe, installed, wants_cpu=False).line == line


def test_the_choice_has_the_facts_for_programs():
    choice = choose("auto", TWO, CPU_ONLY, wants_cpu=False)
    assert choice.cuda == TWO.devices
    assert choice.driver_version == "13.0"
    assert (choice.onnxruntime_version, choice.providers) == CPU_ONLY[:2]
    assert choice.unused == (Unused("cuda:0", LACKS), Unused("cuda:1", LACKS))
    assert choose("auto", NONE, CUDA, wants_cpu=False).problem == NONE.problem


@pytest.mark.parametrize(("cores", "on_cpu", "on_cuda"), [
    (1, 1, 1), (2, 1, 1), (4, 1, 2), (8, 2, 4), (15, 3, 7), (16, 4, 8), (192, 4, 8),
])
def test_front_ends_by_cores(cores, on_cpu, on_cuda):
    assert choose_front_ends(("cpu",), cores) == on_cpu
    assert choose_front_ends(("cuda:0",), cores) == on_cuda
    assert choose_front_ends(("cpu", "cuda:0"), cores) == on_cuda


def test_deciding_leaves_nothing_to_be_chosen(tmp_path: Path):
    asked = Settings(repository=str(tmp_path), devices="cpu", lanes=3)
    in_force, choice = decide(asked)
    assert choice.devices == ("cpu",)
    assert in_force == msgspec.structs.replace(asked, front_ends=in_force.front_ends)
    assert in_force.front_ends >= 1
    named = msgspec.structs.replace(asked, front_ends=7)
    assert decide(named)[0] == named


def test_what_auto_becomes_here_can_be_named(tmp_path: Path):
    in_force, choice = decide(Settings(repository=str(tmp_path)))
    assert in_force.devices == ",".join(choice.devices)
    assert decide(in_force)[1].devices == choice.devices


@pytest.mark.parametrize(("text", "asks"), [
    ("instance_group { kind: KIND_CPU }", True), ("instance_group { kind: KIND_GPU }", False),
    ("", False), ("instance_group { kind: KIND_CPU gpus: 1 }", False), ("no configuration", False),
])
def test_any_model_that_can_be_read_may_ask_for_the_cpu(tmp_path: Path, text: str, asks: bool):
    for name in ("a", "b", "c"):
        (tmp_path / name / "1").mkdir(parents=True)
    (tmp_path / "a" / "config.pbtxt").write_text("what is this")
    (tmp_path / "b" / "config.pbtxt").write_text(text)
    assert some_model_asks_for_cpu(tmp_path) is asks
    assert some_model_asks_for_cpu(tmp_path / "nowhere") is False


def test_tensorrt_alone_makes_a_device_usable():
    choice = choose("auto", TWO, CPU_ONLY._replace(tensorrt=("tensorrt",)), wants_cpu=False)
    assert choice.devices == ("cuda:0", "cuda:1")
    assert choice.line.endswith(", tensorrt")
