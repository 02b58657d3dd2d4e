"""Values that can not work are refused, with words that say which and what is wanted."""

import pytest

from tests.helm.chart import CHART, NEWEST


def refused(helm, values, chart=CHART):
    done = helm.run("template", "r", str(chart), "--kube-version", NEWEST, values=values)
    assert done.returncode != 0, "it was taken"
    return done.stderr


@pytest.mark.parametrize(("values", "words"), [
    ({"replicas": "two"}, ("replicas", "Expected: integer")),
    ({"replicas": -1}, ("replicas", "greater than or equal to 0")),
    ({"replica": 2}, ("replica is not allowed",)),
    ({"settings": {"lanse": 2}}, ("settings", "lanse is not allowed")),
    ({"settings": {"lanes": "many"}}, ("settings.lanes", "Expected: integer")),
    ({"settings": {"log_format": "xml"}}, ("settings.log_format", "console")),
    ({"settings": {"model_control_mode": "always"}}, ("settings.model_control_mode", "explicit")),
    # What values of the chart's own decide can not be given twice.
    ({"settings": {"grpc_port": 9000}}, ("grpc_port is not allowed",)),
    ({"settings": {"tls_key": "/key"}}, ("tls_key is not allowed",)),
    ({"settings": {"http_tls": True}}, ("http_tls is not allowed",)),
    ({"image": {"digest": "latest"}}, ("image.digest", "sha256")),
    ({"image": {"repository": ""}}, ("image.repository",)),
    ({"gpu": {"count": 0}}, ("gpu.count", "greater than or equal to 1")),
    ({"gpu": {"enabled": "yes"}}, ("gpu.enabled", "Expected: boolean")),
    ({"ports": {"grpc": 70000}}, ("ports.grpc", "less than or equal to 65535")),
    ({"drain": {"timeoutSeconds": -1}}, ("drain.timeoutSeconds",)),
    ({"probes": {"startup": {"budgetSeconds": 0}}}, ("probes.startup.budgetSeconds",)),
    ({"models": {"source": "bucket"}}, ("models.source", "objectStore")),
    ({"models": {"path": "models"}}, ("models.path",)),
    ({"models": {"objectStore": {"url": "bucket/models"}}}, ("models.objectStore.url", "s3")),
    ({"models": {"sizeLimit": "20 GB"}}, ("models.sizeLimit",)),
    ({"build": {"models": [{"model": "a", "file": "a", "arguments": ["it's"]}]}},
     ("build.models.0.arguments.0",)),
    ({"build": {"models": [{"model": "a; rm", "file": "a"}]}}, ("build.models.0.model",)),
    ({"build": {"models": [{"model": "a"}]}}, ("build.models.0", "file is required")),
    ({"socket": {"mode": "rw"}}, ("socket.mode",)),
    ({"service": {"type": "External"}}, ("service.type", "LoadBalancer")),
    ({"autoscaling": {"kind": "vpa"}}, ("autoscaling.kind", "keda")),
    ({"networkPolicy": {"clients": "all"}}, ("networkPolicy.clients", "Expected: array")),
    ({"rollout": {"maxSurge": "half"}}, ("rollout.maxSurge",)),
    ({"access": {"secretName": "a", "key": "../token"}}, ("access.key",)),
    ({"fullnameOverride": "A_b"}, ("fullnameOverride",)),
])
def test_by_the_schema(helm, values, words):
    message = refused(helm, values)
    for word in words:
        assert word in message
    assert "values don't meet the specifications" in message


@pytest.mark.parametrize(("values", "words"), [
    ({"models": {"source": "pvc"}}, ("models.pvc.claimName is empty", "Name the claim")),
    ({"models": {"source": "image"}}, ("models.image.reference is empty",)),
    ({"models": {"source": "objectStore"}}, ("models.objectStore.url is empty", "s3://")),
    ({"models": {"source": "objectStore", "objectStore": {"url": "gs://m", "tool": "aws"}}},
     ("takes s3:// only", "gs://m", "Use rclone")),
    ({"models": {"source": "objectStore", "objectStore": {"url": "gs://m", "tool": "custom"}}},
     ("models.objectStore.command",)),
    ({"build": {"enabled": True}}, ("build.models is empty",)),
    ({"build": {"enabled": True}, "gpu": {"enabled": False}}, ("gpu.enabled is false",)),
    ({"socket": {"path": "/" + "a" * 120}}, ("121 bytes", "100")),
    ({"ports": {"grpc": 8002}}, ("ports.grpc and ports.http are the same",)),
    ({"autoscaling": {"kind": "keda"}}, ("autoscaling.keda.prometheus is empty", "http://")),
    ({"autoscaling": {"minReplicas": 9}}, ("minReplicas is 9", "which is 8")),
    ({"rollout": {"maxSurge": 0}}, ("no rollout could go on",)),
    ({"tls": {"clientCertificates": True}}, ("tls.secretName is empty",)),
    ({"cache": {"create": True}}, ("cache.enabled is false",)),
])
def test_by_what_values_mean_together(helm, values, words):
    message = refused(helm, values)
    for word in words:
        assert word in message


def test_the_library_refuses_likewise(helm, application):
    message = refused(helm, {"trtserve-sidecar": {"settings": {"lanse": 2}}}, application)
    assert "lanse is not allowed" in message
    message = refused(helm, {"trtserve-sidecar": {"models": {"source": "pvc"}}}, application)
    assert "models.pvc.claimName is empty" in message


def test_a_number_of_the_command_line_is_one_as_in_a_file(helm):
    done = helm.run(
        "template", "r", str(CHART), "--kube-version", NEWEST, "--set", "ports.grpc=9001", values={}
    )
    assert done.returncode == 0, done.stderr
    done = helm.run(
        "template", "r", str(CHART), "--kube-version", NEWEST, "--set", "ports.grpc=8002", values={}
    )
    assert "ports.grpc and ports.http are the same" in done.stderr
