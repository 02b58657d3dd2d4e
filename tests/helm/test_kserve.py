"""The examples for KServe: their shape, and that they agree with each other and with trtserve."""

import tomllib

import msgspec
import yaml

from tests.helm.chart import NEWEST, OLDEST, ROOT, environment
from tests.helm.schemas import validate
from trtserve.config import Settings
from trtserve.supervisor.shutdown import KILL_AFTER_NS


def load(name):
    return yaml.safe_load((ROOT / "examples" / "kserve" / name).read_text())


def test_their_shape():
    for name in ("runtime.yaml", "inferenceservice.yaml"):
        for version in (OLDEST, NEWEST):
            validate(load(name), version)


def test_the_service_asks_for_what_the_runtime_has():
    runtime, service = load("runtime.yaml")["spec"], load("inferenceservice.yaml")["spec"]
    model = service["predictor"]["model"]
    assert model["runtime"] == load("runtime.yaml")["metadata"]["name"]
    formats = {each["name"] for each in runtime["supportedModelFormats"]}
    assert model["modelFormat"]["name"] in formats
    assert model["protocolVersion"] in runtime["protocolVersions"]


def test_the_runtime_s_container():
    (container,) = load("runtime.yaml")["spec"]["containers"]
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert container["name"] == "kserve-container"  # KServe's own name for it
    assert container["image"] == f"trtserve:{version}-cuda"
    variables = {
        name.removeprefix("TRTSERVE_").lower(): value
        for name, value in environment(container).items() if name.startswith("TRTSERVE_")
    }
    settings = msgspec.convert(variables, Settings, strict=False).check()
    assert settings.repository == "/mnt/models"  # where KServe puts models
    assert [port["containerPort"] for port in container["ports"]] == [settings.grpc_port]
    for name in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert container[name]["httpGet"]["port"] == settings.http_port
    annotations = load("runtime.yaml")["spec"]["annotations"]
    assert annotations["prometheus.kserve.io/port"] == str(settings.http_port)
    grace = load("inferenceservice.yaml")["spec"]["predictor"]["terminationGracePeriodSeconds"]
    assert grace > (
        settings.drain_delay_seconds + settings.drain_timeout_seconds + KILL_AFTER_NS / 1e9
    )
