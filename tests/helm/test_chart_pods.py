"""What the chart's objects mean: stopping, probes, rights, settings, ports, volumes."""

import math
from pathlib import PurePosixPath

import msgspec
import pytest

from tests.helm.chart import CASES, DIGEST, SIDECARS, containers, environment, one, pod
from trtserve.config import Settings
from trtserve.supervisor.shutdown import KILL_AFTER_NS

VARIABLES = {f"TRTSERVE_{field.name.upper()}" for field in msgspec.structs.fields(Settings)}
OTHERS = {"TRTSERVE_CACHE"}
"""Variables of other commands: `trtserve build`."""


@pytest.fixture(params=[*CASES, *SIDECARS])
def objects(request, helm):
    """Everything of one case."""
    if request.param in CASES:
        return helm.render(CASES[request.param])
    chart = request.getfixturevalue("application")
    return helm.render({"trtserve-sidecar": SIDECARS[request.param]}, chart)


def test_there_is_time_for_all_steps_of_stopping(objects):
    server = containers(objects)["trtserve"]
    variables = environment(server)
    pause = server.get("lifecycle", {}).get("preStop", {}).get("exec", {}).get("command", ["", "0"])
    needed = (
        float(pause[1]) + float(variables["TRTSERVE_DRAIN_DELAY_SECONDS"])
        + float(variables["TRTSERVE_DRAIN_TIMEOUT_SECONDS"]) + KILL_AFTER_NS / 1e9
    )
    assert pod(objects)["terminationGracePeriodSeconds"] > needed


def test_probes_ask_what_there_is_where_it_is(objects):
    server = containers(objects)["trtserve"]
    (port,) = [each for each in server["ports"] if each["name"] == "trtserve-http"]
    assert str(port["containerPort"]) == environment(server)["TRTSERVE_HTTP_PORT"]
    probes = ("startup", "liveness", "readiness")
    asked = {name: server[f"{name}Probe"]["httpGet"] for name in probes}
    assert {name: probe["path"] for name, probe in asked.items()} == {
        "startup": "/readyz", "liveness": "/livez", "readiness": "/readyz",
    }
    assert {probe["port"] for probe in asked.values()} == {"trtserve-http"}


def test_the_startup_probe_lasts_as_long_as_loading_may_take(helm):
    for budget, period in ((900, 5), (7, 5), (1, 60)):
        probes = {"startup": {"budgetSeconds": budget, "periodSeconds": period}}
        rendered = helm.render({"probes": probes})
        probe = containers(rendered)["trtserve"]["startupProbe"]
        assert probe["failureThreshold"] == math.ceil(budget / period)
        assert one(rendered, "Deployment")["spec"]["progressDeadlineSeconds"] > budget


def test_every_variable_is_a_setting(objects):
    for container in containers(objects).values():
        ours = {each["name"] for each in container.get("env", ()) if "TRTSERVE_" in each["name"]}
        assert ours <= VARIABLES | OTHERS | {"TRTSERVE_ADDRESS"}


def test_the_settings_are_taken(objects):
    """Read as the command line reads them, they are settings that pass its checks."""
    values = {
        name.removeprefix("TRTSERVE_").lower(): value
        for name, value in environment(containers(objects)["trtserve"]).items() if name in VARIABLES
    }
    msgspec.convert(values, Settings, strict=False).check()


def test_no_container_may_do_more_than_it_must(objects):
    for name, container in containers(objects).items():
        if name == "first":  # of extraInitContainers: whoever gives it says what it may
            continue
        rights = container["securityContext"]
        assert rights["runAsNonRoot"] is True
        assert rights["runAsUser"] > 0
        assert rights["readOnlyRootFilesystem"] is True
        assert rights["allowPrivilegeEscalation"] is False
        assert rights["capabilities"] == {"drop": ["ALL"]}
        assert "limits" in container["resources"]
    assert pod(objects)["securityContext"]["runAsNonRoot"] is True
    assert pod(objects)["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert not any(pod(objects).get(name) for name in ("hostNetwork", "hostPID", "hostIPC"))


def test_no_pod_has_a_token(objects):
    assert pod(objects)["automountServiceAccountToken"] is False
    for found in objects:
        if found["kind"] == "ServiceAccount":
            assert found["automountServiceAccountToken"] is False
        if found["kind"] == "Pod":
            assert found["spec"]["automountServiceAccountToken"] is False


def test_variables_of_services_do_not_get_in(objects):
    """A service named trtserve-grpc would set TRTSERVE_GRPC_PORT to something like tcp://..."""
    assert pod(objects)["enableServiceLinks"] is False


def test_every_mount_has_its_volume_and_every_volume_a_mount(objects):
    volumes = [each["name"] for each in pod(objects)["volumes"]]
    assert len(volumes) == len(set(volumes))
    mounted = set()
    for container in containers(objects).values():
        paths = [each["mountPath"] for each in container.get("volumeMounts", ())]
        assert len(paths) == len(set(paths)), "two things at one place"
        mounted |= {each["name"] for each in container.get("volumeMounts", ())}
    assert mounted == set(volumes)


def test_ports_have_names_of_their_own_in_the_pod(objects):
    all_of_them = containers(objects).values()
    names = [port["name"] for each in all_of_them for port in each.get("ports", ())]
    assert len(names) == len(set(names))
    assert all(len(name) <= 15 for name in names)


def test_the_repository_is_where_models_are_mounted(objects):
    server = containers(objects)["trtserve"]
    path = environment(server)["TRTSERVE_REPOSITORY"]
    mounts = [each for each in server["volumeMounts"] if each["mountPath"] == path]
    assert all(each["readOnly"] for each in mounts)
    kinds = {next(iter(set(each) - {"name"})): each for each in pod(objects)["volumes"]}
    if any(each["name"] == "trtserve-models" for each in kinds.values()):
        assert mounts


def test_what_serves_is_never_an_emptydir_s_root(objects):
    """It can be written by everybody, and trtserve refuses plans that lie in such a folder."""
    empty = {each["name"] for each in pod(objects)["volumes"] if "emptyDir" in each}
    server = containers(objects)["trtserve"]
    path = environment(server)["TRTSERVE_REPOSITORY"]
    for mount in server["volumeMounts"]:
        if mount["mountPath"] == path and mount["name"] in empty:
            assert mount["subPath"]


def test_the_socket_is_in_memory_and_its_path_is_short_enough(objects):
    server = containers(objects)["trtserve"]
    path = environment(server)["TRTSERVE_SOCKET"]
    assert len(path.encode()) <= 100
    (mount,) = [each for each in server["volumeMounts"] if each["name"] == "trtserve-socket"]
    assert str(PurePosixPath(path).parent) == mount["mountPath"]
    (volume,) = [each for each in pod(objects)["volumes"] if each["name"] == "trtserve-socket"]
    assert volume["emptyDir"]["medium"] == "Memory"


def test_gpus_are_asked_for_and_named(helm):
    server = containers(helm.render(CASES["gpu"]))["trtserve"]
    assert server["resources"]["limits"]["nvidia.com/gpu"] == 2
    assert environment(server)["TRTSERVE_DEVICES"] == "cuda:0,cuda:1"
    assert pod(helm.render(CASES["gpu"]))["runtimeClassName"] == "nvidia"
    server = containers(helm.render(CASES["mig"]))["trtserve"]
    assert server["resources"]["limits"]["nvidia.com/mig-1g.10gb"] == 1
    server = containers(helm.render(CASES["cpu"]))["trtserve"]
    assert environment(server)["TRTSERVE_DEVICES"] == "cpu"
    assert "nvidia.com/gpu" not in server["resources"]["limits"]
    assert "tolerations" not in pod(helm.render(CASES["cpu"]))
    chosen = helm.render({"settings": {"devices": "cpu,cuda:0"}})
    assert environment(containers(chosen)["trtserve"])["TRTSERVE_DEVICES"] == "cpu,cuda:0"


def test_the_image_is_the_one_that_is_asked_for(helm):
    def image(values):
        return containers(helm.render(values))["trtserve"]["image"]

    assert image({}) == "trtserve:0.1.0-cuda"
    assert image({"gpu": {"enabled": False}}) == "trtserve:0.1.0-cpu"
    assert image(CASES["gpu"]) == f"inference/trtserve:1.2.3@{DIGEST}"


def test_certificates_are_mounted_so_that_new_ones_arrive(helm):
    server = containers(helm.render(CASES["tls"]))["trtserve"]
    (mount,) = [each for each in server["volumeMounts"] if each["name"] == "trtserve-tls"]
    assert "subPath" not in mount  # Kubernetes never changes files that are mounted so
    variables = environment(server)
    for name in ("CERTIFICATE", "KEY", "CLIENT_CA"):
        assert variables[f"TRTSERVE_TLS_{name}"].startswith(mount["mountPath"] + "/")
    (access,) = [each for each in server["volumeMounts"] if each["name"] == "trtserve-access"]
    assert variables["TRTSERVE_ACCESS_FILE"].startswith(access["mountPath"] + "/")
    assert "TRTSERVE_TLS_KEY" not in environment(containers(helm.render({}))["trtserve"])


def test_plans_are_built_from_the_models_and_served_instead_of_them(helm):
    found = containers(helm.render(CASES["plans"]))
    assert list(found) == ["trtserve-prepare-cache", "trtserve-build-plans", "trtserve"]
    build, server = found["trtserve-build-plans"], found["trtserve"]
    script = build["command"][2]
    assert "trtserve build '/models/det/1/model.onnx' --repository /plans/models" in script
    assert "--name 'det' '--sizes' '320,480'\n" in script
    assert build["resources"]["limits"] == server["resources"]["limits"]  # the same GPUs

    def at(container, path):
        return next(each["name"] for each in container["volumeMounts"] if each["mountPath"] == path)

    assert (at(build, "/models"), at(server, "/models")) == ("trtserve-models", "trtserve-plans")
    assert at(build, "/var/cache/trtserve") == "trtserve-cache"
    assert environment(build)["TRTSERVE_CACHE"].startswith("/var/cache/trtserve/")


@pytest.mark.parametrize(("url", "source"), [
    ("s3://models/all", ":s3:models/all"), ("gs://models", ":gcs:models"),
    ("az://models/a/b", ":azureblob:models/a/b"), ("https://models.example/all", ":http:"),
])
def test_rclone_is_told_where_the_models_are(helm, url, source):
    rendered = helm.render({"models": {"source": "objectStore", "objectStore": {"url": url}}})
    variables = environment(containers(rendered)["trtserve-fetch-models"])
    assert variables["SOURCE"] == source
    assert variables.get("RCLONE_HTTP_URL") == (url if url.startswith("http") else None)
