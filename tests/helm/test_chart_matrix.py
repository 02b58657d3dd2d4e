"""The chart over a matrix of values: helm has nothing to say, and Kubernetes knows every field."""

import jsonschema
import pytest

from tests.helm.chart import CASES, CHART, NEWEST, OLDEST, SIDECARS, containers
from tests.helm.schemas import VERSIONS, validate


def versions(case):
    """Those at both ends, where the case is possible in both."""
    return [NEWEST] if case == "image volume" else [OLDEST, NEWEST]


@pytest.mark.parametrize("case", CASES)
def test_helm_renders_what_kubernetes_takes(helm, case):
    objects = helm.render(CASES[case])
    assert {"Deployment", "Service"} <= {found["kind"] for found in objects}
    for version in versions(case):
        for found in objects:
            validate(found, version)
    names = [(found["kind"], found["metadata"]["name"]) for found in objects]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("case", SIDECARS)
def test_the_library_renders_what_kubernetes_takes(helm, application, case):
    for found in helm.render({"trtserve-sidecar": SIDECARS[case]}, application):
        validate(found, OLDEST)
        validate(found, NEWEST)


@pytest.mark.parametrize("case", ["default", "plans", "keda"])
def test_helm_s_own_review_has_nothing_to_say(helm, case):
    done = helm.run("lint", "--strict", str(CHART), values=CASES[case])
    assert done.returncode == 0, done.stdout + done.stderr


def test_helm_s_own_review_of_the_application(helm, application):
    done = helm.run("lint", "--strict", str(application))
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("version", VERSIONS)
def test_every_version_of_kubernetes_takes_it(helm, application, version):
    for case, values in CASES.items():
        if version in versions(case) or case != "image volume":
            for found in helm.render(values, version=version):
                validate(found, version)
        done = helm.run("lint", "--strict", str(CHART), values=values)
        assert done.returncode == 0, done.stdout + done.stderr
    for values in SIDECARS.values():
        for found in helm.render({"trtserve-sidecar": values}, application, version=version):
            validate(found, version)


def test_an_older_kubernetes_is_refused(helm):
    done = helm.run("template", str(CHART), "--kube-version", "1.28.0", values={})
    assert done.returncode != 0
    assert "kubeVersion" in done.stderr


def test_the_schemas_would_notice_a_field_that_is_none(helm):
    (deployment,) = [each for each in helm.render({}) if each["kind"] == "Deployment"]
    deployment["spec"]["template"]["spec"]["containers"][0]["livenesProbe"] = {}
    with pytest.raises(jsonschema.ValidationError, match="livenesProbe"):
        validate(deployment, NEWEST)


def test_numbers_are_written_out(helm):
    """Helm reads them as floats: 1073741824 would else become 1.073741824e+09."""
    variables = {
        each["name"]: each["value"]
        for each in containers(helm.render(CASES["cpu"]))["trtserve"]["env"]
    }
    assert variables["TRTSERVE_ARENA_BYTES"] == "1073741824"
    assert variables["TRTSERVE_TRACE_SAMPLE_RATIO"] == "0.5"
    assert variables["TRTSERVE_ALLOW_WRITABLE_PLANS"] == "true"
