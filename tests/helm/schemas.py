"""Objects against Kubernetes's own schemas; for kinds of others, against what is used of them here.

kubernetes-validate has the schemas. The custom kinds have none there: their shapes below were
written after the definitions that Prometheus's operator, KEDA and KServe publish, as far as the
chart and the examples use them, with nothing else allowed.
"""

from functools import cache
from importlib.resources import files
from json import loads
from typing import Any

import jsonschema
from referencing import Registry, Resource

from tests.helm.chart import Object

Schema = dict[str, Any]

_FOLDER = files("kubernetes_validate").joinpath("kubernetes-json-schema")

VERSIONS = [f"1.{minor}.0" for minor in range(29, 38)]


def validate(found: Object, version: str) -> None:
    """Raises jsonschema.ValidationError."""
    _validator(found["apiVersion"], found["kind"], version).validate(found)
    name = found["metadata"]["name"]
    assert len(name) <= 63, f"{name} is too long for a name"
    for value in found["metadata"].get("labels", {}).values():
        assert len(value) <= 63, f"{value} is too long for a label"


@cache
def _validator(api: str, kind: str, version: str) -> Any:
    if (api, kind) in CUSTOM:
        return jsonschema.Draft202012Validator(CUSTOM[api, kind], registry=_registry(version))
    group, _, revision = api.rpartition("/")
    name = "-".join(filter(None, [kind.lower(), group.partition(".")[0], revision]))
    schema = loads((_folder(version) / f"{name}.json").read_text())
    return jsonschema.Draft202012Validator(schema, registry=_registry(version))


def _folder(version: str) -> Any:
    return _FOLDER / f"v{version}-local-strict"


@cache
def _registry(version: str) -> Any:
    definitions = loads((_folder(version) / "_definitions.json").read_text())
    return Resource.from_contents(definitions) @ Registry()


def _core(name: str) -> Schema:
    """One of Kubernetes's own shapes."""
    return {"$ref": f"https://kubernetes.io/api/_definitions.json#/$defs/io.k8s.api.{name}"}


def _obj(*required: str, **properties: Any) -> Schema:
    return {
        "type": "object", "additionalProperties": False, "required": list(required),
        "properties": properties,
    }


def _list(items: Schema) -> Schema:
    return {"type": "array", "minItems": 1, "items": items}


def _custom(**spec: Schema) -> Schema:
    return _obj(
        "apiVersion", "kind", "metadata", "spec", apiVersion=_TEXT, kind=_TEXT,
        metadata=_obj("name", name=_TEXT, namespace=_TEXT, labels=_WORDS, annotations=_WORDS),
        spec=_obj(**spec),
    )


_TEXT = {"type": "string"}
_NUMBER = {"type": "integer"}
_SWITCH = {"type": "boolean"}
_WORDS = {"type": "object", "additionalProperties": _TEXT}
_DURATION = {"type": "string", "pattern": "^(0|([0-9]+(ms|[smhdwy]))+)$"}

_RULE = {
    **_obj("expr", alert=_TEXT, record=_TEXT, expr={"type": ["string", "integer"]},
           **{"for": _DURATION, "keep_firing_for": _DURATION}, labels=_WORDS, annotations=_WORDS),
    "oneOf": [{"required": ["alert"]}, {"required": ["record"]}],
}

_MODEL = _obj(
    "modelFormat", modelFormat=_obj("name", name=_TEXT, version=_TEXT), runtime=_TEXT,
    protocolVersion=_TEXT, storageUri=_TEXT, resources=_core("core.v1.ResourceRequirements"),
)

CUSTOM: dict[tuple[str, str], Schema] = {
    ("monitoring.coreos.com/v1", "ServiceMonitor"): _custom(
        namespaceSelector=_obj(matchNames=_list(_TEXT), any=_SWITCH),
        selector=_obj("matchLabels", matchLabels=_WORDS),
        endpoints=_list(_obj(
            "port", port=_TEXT, path=_TEXT, interval=_DURATION, scrapeTimeout=_DURATION,
        )),
    ),
    ("monitoring.coreos.com/v1", "PrometheusRule"): _custom(
        groups=_list(_obj(
            "name", "rules", name=_TEXT, interval=_DURATION, rules=_list(_RULE), labels=_WORDS,
            limit=_NUMBER,
        )),
    ),
    ("keda.sh/v1alpha1", "ScaledObject"): _custom(
        scaleTargetRef=_obj("name", name=_TEXT), minReplicaCount=_NUMBER, maxReplicaCount=_NUMBER,
        pollingInterval=_NUMBER,
        advanced=_obj(horizontalPodAutoscalerConfig=_obj(
            behavior=_core("autoscaling.v2.HorizontalPodAutoscalerBehavior"),
        )),
        triggers=_list(_obj(
            "type", "metadata", type={"const": "prometheus"}, metadata=_WORDS,
            metricType={"enum": ["AverageValue", "Value"]},
        )),
    ),
    ("serving.kserve.io/v1alpha1", "ClusterServingRuntime"): _custom(
        supportedModelFormats=_list(_obj(
            "name", name=_TEXT, version=_TEXT, autoSelect=_SWITCH, priority=_NUMBER,
        )),
        protocolVersions=_list({"enum": ["v1", "v2", "grpc-v1", "grpc-v2"]}),
        multiModel=_SWITCH, annotations=_WORDS,
        containers=_list(_core("core.v1.Container")), volumes=_list(_core("core.v1.Volume")),
    ),
    ("serving.kserve.io/v1beta1", "InferenceService"): _custom(
        predictor=_obj(
            "model", minReplicas=_NUMBER, maxReplicas=_NUMBER, model=_MODEL,
            automountServiceAccountToken=_SWITCH, terminationGracePeriodSeconds=_NUMBER,
        ),
    ),
}
