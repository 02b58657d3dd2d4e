"""The chart as helm renders it, and the values that it is tried with."""

import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
CHART = ROOT / "helm" / "trtserve"
LIBRARY = CHART / "charts" / "trtserve-sidecar"
APPLICATION = ROOT / "examples" / "kubernetes" / "sidecar"

OLDEST, NEWEST = "1.29.0", "1.37.0"
"""Versions of Kubernetes that the chart is for, and whose schemas its objects are held against."""

Values = Mapping[str, Any]
Object = dict[str, Any]

DIGEST = "sha256:" + "0123456789abcdef" * 4

MONITORING = {
    "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
    "rules": {"enabled": True}, "dashboards": {"enabled": True},
}

CASES: dict[str, Values] = {
    "default": {},
    "cpu": {"gpu": {"enabled": False}, "replicas": 1, "settings": {
        "lanes": 2, "arena_bytes": 1 << 30, "trace_sample_ratio": 0.5, "allow_writable_plans": True,
    }},
    "gpu": {
        "gpu": {"count": 2, "runtimeClassName": "nvidia"},
        "image": {"repository": "inference/trtserve", "tag": "1.2.3", "digest": DIGEST},
        "imagePullSecrets": [{"name": "pull"}], "priorityClassName": "serving",
        "nodeSelector": {"nvidia.com/gpu.product": "H200"},
        "tolerations": [{"key": "dedicated", "operator": "Exists"}],
        "affinity": {"podAntiAffinity": {}},
        "rollout": {"maxSurge": 0, "maxUnavailable": "25%"},
    },
    "mig": {"gpu": {"resource": "nvidia.com/mig-1g.10gb"}, "topologySpread": []},
    "tls": {
        "tls": {"secretName": "certificate", "clientCertificates": True},
        "access": {"secretName": "access"}, "service": {"type": "LoadBalancer", "port": 443},
    },
    "pvc": {
        "models": {"source": "pvc", "pvc": {"claimName": "models", "subPath": "production"}},
        "settings": {"model_control_mode": "poll"},
    },
    "image": {"models": {"source": "image", "image": {"reference": "models:7", "path": "/data"}}},
    "image volume": {
        "models": {"source": "image", "image": {"reference": "models:7", "mount": "volume"}},
    },
    "bucket": {"models": {"source": "objectStore", "objectStore": {
        "url": "s3://models/production", "secretName": "credentials",
        "env": [{"name": "RCLONE_S3_REGION", "value": "eu-central-1"}],
    }}},
    "bucket by aws": {
        "models": {"source": "objectStore", "objectStore": {"url": "s3://models", "tool": "aws"}},
        "networkPolicy": {"egress": [{"ports": [{"port": 4318}]}]},
    },
    "own fetcher": {"models": {"source": "objectStore", "objectStore": {
        "url": "https://models.example/all", "tool": "custom", "image": "fetcher:1",
        "command": ["fetch", "$(URL)", "$(TARGET)"],
    }}},
    "plans": {
        "models": {"source": "pvc", "pvc": {"claimName": "models"}},
        "build": {"enabled": True, "models": [
            {"model": "det", "file": "det/1/model.onnx", "arguments": ["--sizes", "320,480"]},
            {"model": "cls", "file": "cls/1/model.onnx"},
        ]},
        "cache": {"enabled": True, "create": True, "storageClassName": "fast"},
    },
    "cache": {"cache": {"enabled": True, "claimName": "plans"}},
    "cache of the pod": {"cache": {"enabled": True}},
    "hpa": {"autoscaling": {"kind": "hpa"}},
    "keda": {"autoscaling": {
        "kind": "keda", "minReplicas": 1, "keda": {"prometheus": "http://prometheus:9090"},
    }},
    "monitoring": {"monitoring": MONITORING},
    "bare": {
        "networkPolicy": {"enabled": False}, "disruptionBudget": {"enabled": False},
        "headless": {"enabled": False}, "serviceAccount": {"create": False},
        "drain": {"preStopSeconds": 0, "delaySeconds": 0, "timeoutSeconds": 0.5},
    },
    "closed": {"networkPolicy": {"clients": [], "monitoring": []}},
    "extras": {
        "nameOverride": "vision", "fullnameOverride": "vision",
        "podLabels": {"team": "vision"}, "podAnnotations": {"note": "yes"},
        "service": {"annotations": {"note": "yes"}},
        "serviceAccount": {"name": "vision", "annotations": {"role": "reader"}},
        "extraEnv": [{"name": "CUDA_MODULE_LOADING", "value": "LAZY"}],
        "extraVolumes": [{"name": "hashes", "configMap": {"name": "hashes"}}],
        "extraVolumeMounts": [{"name": "hashes", "mountPath": "/etc/hashes"}],
        "extraInitContainers": [{"name": "first", "image": "first:1"}],
        "extraObjects": [{
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "hashes"}, "data": {},
        }],
        "settings": {"plan_hashes": "/etc/hashes/sums"},
    },
}
"""What the chart is tried with, by a name for each."""

SIDECARS: dict[str, Values] = {
    "sidecar": {},
    "sidecar with a GPU": {"gpu": {"enabled": True}},
    "sidecar of the old kind": {"native": False, "drain": {"delaySeconds": 10}},
    "sidecar with a bucket": {
        "models": {"source": "objectStore", "objectStore": {"url": "gs://models/all"}},
        "cache": {"enabled": True}, "access": {"secretName": "access"},
    },
}
"""The same for the library, in the example of an application."""


@dataclass(frozen=True)
class Helm:
    """The program."""

    program: str

    def run(
        self, *arguments: str, values: Values | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run it, with values from standard input."""
        given = () if values is None else ("--values", "-")
        return subprocess.run(
            [self.program, *arguments, *given], input=yaml.safe_dump(dict(values or {})),
            capture_output=True, text=True, timeout=60,
        )

    def render(
        self, values: Values, chart: Path = CHART, *, release: str = "production",
        namespace: str = "vision", version: str = NEWEST,
    ) -> list[Object]:
        """All objects of a release."""
        given = yaml.safe_dump(dict(values))
        text = _template(self.program, chart, release, namespace, version, given)
        return [found for found in yaml.load_all(text, yaml.CSafeLoader) if found]

    def application(self, folder: Path) -> Path:
        """The example of an application, with its dependency in it; `folder` is to be empty."""
        chart = folder / "application"
        shutil.copytree(APPLICATION, chart)
        described = yaml.safe_load((chart / "Chart.yaml").read_text())
        (dependency,) = described["dependencies"]
        place = (APPLICATION / dependency["repository"].removeprefix("file://")).resolve()
        dependency["repository"] = f"file://{place}"
        (chart / "Chart.yaml").write_text(yaml.safe_dump(described))
        done = self.run("dependency", "build", str(chart))
        assert done.returncode == 0, done.stderr
        return chart


@cache
def _template(
    program: str, chart: Path, release: str, namespace: str, version: str, values: str
) -> str:
    """What `helm template` prints. Many tests look at the same."""
    done = subprocess.run(
        [program, "template", release, str(chart), "--namespace", namespace,
         "--kube-version", version, "--values", "-"],
        input=values, capture_output=True, text=True, timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def one(objects: list[Object], kind: str, name: str | None = None) -> Object:
    """The only object of a kind, or of that name."""
    (found,) = [
        each for each in objects
        if each["kind"] == kind and name in (None, each["metadata"]["name"])
    ]
    return found


def pod(objects: list[Object]) -> Object:
    """The specification of the Deployment's pods."""
    found: Object = one(objects, "Deployment")["spec"]["template"]["spec"]
    return found


def containers(objects: list[Object]) -> dict[str, Object]:
    """All containers of the Deployment's pods, init containers too, by their names."""
    found = pod(objects)
    return {each["name"]: each for each in [*found.get("initContainers", ()), *found["containers"]]}


def environment(container: Object) -> dict[str, str]:
    """A container's variables."""
    names = [each["name"] for each in container["env"]]
    assert len(names) == len(set(names)), "a variable comes twice"
    return {each["name"]: each.get("value", "") for each in container["env"]}
