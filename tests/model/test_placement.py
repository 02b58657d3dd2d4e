"""Which devices a model lives on, and on how many of their lanes."""

from pathlib import Path

import pytest
from google.protobuf import text_format

from trtserve.model.configuration import ModelConfiguration, read_configuration
from trtserve.model.placement import Placed, asks_for_cpu, place
from trtserve.proto.model_config_pb2 import ModelConfig

CPU = ("cpu",)
ONE = ("cuda:0",)
TWO = ("cuda:0", "cuda:1")
BOTH = ("cpu", "cuda:0")
ALL = ("cpu", "cuda:0", "cuda:1")


def groups(*texts: str) -> ModelConfiguration:
    text = " ".join(f"instance_group {{ {text} }}" for text in texts)
    return ModelConfiguration(text_format.Parse(text, ModelConfig()))


def placed(configuration: ModelConfiguration, devices: tuple[str, ...]) -> dict[str, int | None]:
    """The devices it lives on with its lanes there."""
    found = {device: place(configuration, devices, device) for device in devices}
    return {device: one.lanes for device, one in found.items() if one is not None}


def warnings(configuration: ModelConfiguration, devices: tuple[str, ...]) -> set[str]:
    found = [place(configuration, devices, device) for device in devices]
    return {one.warning for one in found if one is not None}


@pytest.mark.parametrize(("texts", "devices", "expected"), [
    # Without a word: the CUDA devices, or the CPU.
    ((), CPU, {"cpu": None}),
    ((), TWO, {"cuda:0": None, "cuda:1": None}),
    ((), ALL, {"cuda:0": None, "cuda:1": None}),
    (("kind: KIND_AUTO",), CPU, {"cpu": None}),
    (("count: 2",), ALL, {"cuda:0": 2, "cuda:1": 2}),
    (("count: 2",), CPU, {"cpu": 2}),
    (("kind: KIND_MODEL count: 3",), BOTH, {"cuda:0": 3}),
    (("kind: KIND_AUTO gpus: 1",), ALL, {"cuda:1": None}),
    (("kind: KIND_AUTO gpus: 7 count: 2",), ONE, {"cuda:0": 2}),
    (("kind: KIND_AUTO gpus: 0 count: 2",), CPU, {"cpu": 2}),
    # KIND_GPU.
    (("kind: KIND_GPU",), ALL, {"cuda:0": None, "cuda:1": None}),
    (("kind: KIND_GPU gpus: 1",), ALL, {"cuda:1": None}),
    (("kind: KIND_GPU gpus: [ 0, 1 ] count: 2",), TWO, {"cuda:0": 2, "cuda:1": 2}),
    # KIND_CPU.
    (("kind: KIND_CPU",), ALL, {"cpu": None}),
    (("kind: KIND_CPU count: 4",), BOTH, {"cpu": 4}),
    # Several groups: all of their devices; counts of one device add up, where all have one.
    (("kind: KIND_GPU count: 1", "kind: KIND_CPU count: 2"), BOTH, {"cpu": 2, "cuda:0": 1}),
    (("kind: KIND_GPU count: 1", "kind: KIND_GPU gpus: 1 count: 2"), TWO,
     {"cuda:0": 1, "cuda:1": 3}),
    (("kind: KIND_GPU count: 1", "kind: KIND_GPU gpus: 1"), TWO, {"cuda:0": 1, "cuda:1": None}),
    (("kind: KIND_AUTO count: 1", "kind: KIND_CPU count: 2"), CPU, {"cpu": 3}),
])
def test_what_is_asked_for_and_there_is_given(texts, devices, expected):
    assert placed(groups(*texts), devices) == expected
    assert warnings(groups(*texts), devices) == {""}


@pytest.mark.parametrize(("texts", "devices", "expected", "words"), [
    (("kind: KIND_GPU count: 1",), CPU, {"cpu": None},
     "asks for a CUDA device, and this daemon has cpu: served on cpu"),
    (("kind: KIND_GPU gpus: [ 2, 3 ]",), ALL, {"cuda:0": None, "cuda:1": None},
     "asks for cuda:2, cuda:3, and this daemon has cpu, cuda:0, cuda:1: served on cuda:0, cuda:1"),
    (("kind: KIND_CPU count: 2",), TWO, {"cuda:0": None, "cuda:1": None},
     "asks for cpu, and this daemon has cuda:0, cuda:1: served on cuda:0, cuda:1"),
    (("kind: KIND_GPU gpus: [ 0, 10 ] count: 2",), TWO, {"cuda:0": 2},
     "asks for cuda:10 too, and this daemon has cuda:0, cuda:1: served without"),
    (("kind: KIND_GPU count: 1", "kind: KIND_CPU count: 2"), CPU, {"cpu": 2},
     "asks for a CUDA device too, and this daemon has cpu: served without"),
])
def test_what_is_not_there_is_a_warning_and_the_model_is_served(texts, devices, expected, words):
    assert placed(groups(*texts), devices) == expected
    (warning,) = warnings(groups(*texts), devices)
    assert warning.startswith("instance_group ")
    assert words in warning


@pytest.mark.parametrize("devices", [CPU, ONE, TWO, BOTH, ALL])
@pytest.mark.parametrize("text", [
    "", "count: 1", *(f"kind: KIND_{kind}{gpus}" for kind in ("GPU", "CPU", "AUTO", "MODEL")
                      for gpus in ("", " gpus: 0", " gpus: 1", " gpus: [ 1, 5 ]")
                      if not (gpus and kind == "CPU")),
])
def test_every_model_lives_somewhere(text, devices):
    assert placed(groups(text), devices)


def test_a_warning_names_the_line(tmp_path: Path):
    file = tmp_path / "config.pbtxt"
    file.write_text("max_batch_size: 0\n\ninstance_group {\nkind: KIND_GPU }")
    one = place(read_configuration(tmp_path), CPU, "cpu")
    assert one is not None
    assert one.warning.startswith(f"{file}:3: instance_group asks for")


def test_no_configuration_is_no_group():
    assert place(ModelConfiguration(), ONE, "cuda:0") == Placed()


@pytest.mark.parametrize(("texts", "asks"), [
    ((), False), (("kind: KIND_GPU",), False), (("count: 2",), False), (("kind: KIND_CPU",), True),
    (("kind: KIND_GPU", "kind: KIND_CPU"), True),
])
def test_only_a_group_of_that_kind_asks_for_the_cpu(texts, asks):
    assert asks_for_cpu(groups(*texts)) is asks
