import subprocess
import sys

import msgspec
import pytest

from trtserve.device.cuda import CudaDevice
from trtserve.device.probe import CudaFacts, Probe, ask, plainly_missing, probe, probe_in_child
from trtserve.errors import DeviceError

FOUND = Probe(
    (CudaFacts(0, "NVIDIA H200", "9.0", 150_000_000_000, 1, "0000:1b:00.0"),), "13.0", "13.3"
)


def child(source: str, timeout: float = 30) -> Probe:
    return ask((sys.executable, "-c", source), timeout)


def test_the_answer_is_the_last_line():
    text = msgspec.json.encode(FOUND).decode()
    assert child(f"print('a library says hello'); print({text!r})") == FOUND


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("import os; os.abort()", "exit code -6"),
        ("raise SystemExit('libcuda is broken')", "exit code 1): libcuda is broken"),
        ("pass", "exit code 0"),
        ("print('nonsense')", "exit code 0"),
        ("print('[]')", "exit code 0"),
    ],
)
def test_a_child_that_fails_is_a_problem(source, said):
    found = child(source)
    assert not found.devices
    assert said in found.problem


def test_a_child_that_hangs_is_a_problem():
    found = child("import signal; signal.pause()", timeout=0.2)
    assert not found.devices
    assert "within 0.2 s" in found.problem


def test_a_child_that_does_not_start_is_a_problem():
    assert "does not start" in ask(("/nowhere/python",), 1).problem


def test_a_missing_package_needs_no_child():
    for package in ("no_such_package", "no_such_package.bindings"):
        assert "pip install 'trtserve[cuda]'" in plainly_missing(package)


def test_a_missing_driver_needs_no_child():
    assert "no NVIDIA driver" in plainly_missing("msgspec", "no-such-library", ("/nowhere",))


@pytest.mark.parametrize(("library", "node"), [("c", "/nowhere"), ("no-such-library", "/dev/null")])
def test_one_sign_of_a_driver_is_enough_to_ask(library, node):
    assert plainly_missing("msgspec", library, (node,)) == ""


def test_the_program_says_what_the_function_does():
    command = (sys.executable, "-m", "trtserve.device.probe")
    said = subprocess.run(command, capture_output=True, check=True, timeout=60).stdout
    assert msgspec.json.decode(said, type=Probe) == probe()


def test_it_finds_devices_or_a_problem():
    found = probe_in_child()
    assert bool(found.devices) != bool(found.problem)


def test_the_device_itself_names_the_same_cure():
    if not plainly_missing():
        pytest.skip("this machine seems to have CUDA")
    with pytest.raises(DeviceError) as caught:
        CudaDevice(0)
    cure = probe().problem.rpartition(". ")[2]
    assert str(caught.value).startswith("cuda:0: ")
    assert str(caught.value).endswith(cure)
    assert not caught.value.sticky
