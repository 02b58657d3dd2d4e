"""The schema of the chart's values, in pieces: pure data and functions."""

from collections.abc import Iterable
from typing import Any

from msgspec.structs import FieldInfo

from trtserve.metrics import LATENCY_EDGES

Schema = dict[str, Any]

OWN_VALUES = {
    "repository": "models.path", "host": "host", "http_host": "httpHost",
    "grpc_port": "ports.grpc", "http_port": "ports.http", "socket": "socket.path",
    "socket_mode": "socket.mode", "drain_delay_seconds": "drain.delaySeconds",
    "drain_timeout_seconds": "drain.timeoutSeconds", "access_file": "access.secretName",
    "tls_certificate": "tls.secretName", "tls_key": "tls.secretName",
    "tls_client_ca": "tls.clientCertificates",
    "grpc_max_connection_age_seconds": "grpc.maxConnectionAgeSeconds",
    "grpc_max_connection_age_grace_seconds": "grpc.maxConnectionAgeGraceSeconds",
}
"""Settings that values of the chart's own decide, and which: what else follows from them, such as
ports and mounts, has to agree."""

SENSELESS = {
    "ready_file": "Probes tell whether it is ready",
    "http_tls": "Probes and metrics would need certificates; the network policy guards HTTP",
}
"""Settings that no chart can give, and why."""

_CHOICES = {
    "model_control_mode": ["none", "explicit", "poll"],
    "log_format": ["console", "json"],
    "log_level": ["debug", "info", "warning", "error"],
}

TEXT: Schema = {"type": "string"}
NAME: Schema = {"type": "string", "minLength": 1}
SWITCH: Schema = {"type": "boolean"}
COUNT: Schema = {"type": "integer", "minimum": 1}
PORT: Schema = {"type": "integer", "minimum": 1, "maximum": 65535}
SECONDS: Schema = {"type": "number", "minimum": 0}
SHARE: Schema = {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1}
PATH: Schema = {"type": "string", "pattern": "^/[A-Za-z0-9._/-]*$"}
WORDS: Schema = {"type": "object", "additionalProperties": TEXT}
OBJECTS: Schema = {"type": "array", "items": {"type": "object"}}
ANY: Schema = {"type": "object"}
SIZE: Schema = {"type": "string", "pattern": "^[0-9]+(\\.[0-9]+)?([KMGTP]i?)?$"}
AMOUNT: Schema = {"oneOf": [
    {"type": "integer", "minimum": 0}, {"type": "string", "pattern": "^[0-9]{1,3}%$"},
]}


def obj(**properties: Schema) -> Schema:
    """An object that has these and nothing else: a slip of the pen is no value."""
    return {"type": "object", "additionalProperties": False, "properties": properties}


def choice(*values: str) -> Schema:
    """One of these."""
    return {"type": "string", "enum": list(values)}


def application(settings: Iterable[FieldInfo]) -> Schema:
    """Of the chart trtserve."""
    return _schema("Values of the chart trtserve", {
        **_shared(settings),
        "nameOverride": TEXT,
        "fullnameOverride": {
            "type": "string", "maxLength": 40, "pattern": "^([a-z]([-a-z0-9]*[a-z0-9])?)?$",
        },
        "replicas": {"type": "integer", "minimum": 0},
        "imagePullSecrets": OBJECTS,
        "gpu": obj(enabled=SWITCH, count=COUNT, resource=NAME, runtimeClassName=TEXT),
        "grpc": obj(maxConnectionAgeSeconds=SECONDS, maxConnectionAgeGraceSeconds=SECONDS),
        "tls": obj(secretName=TEXT, clientCertificates=SWITCH),
        "cache": obj(
            enabled=SWITCH, claimName=TEXT, create=SWITCH, storageClassName=TEXT, sizeLimit=SIZE,
            accessModes={"type": "array", "minItems": 1, "items": choice(
                "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod",
            )},
        ),
        "service": obj(
            type=choice("ClusterIP", "NodePort", "LoadBalancer"), port=PORT, annotations=WORDS
        ),
        "headless": obj(enabled=SWITCH),
        "serviceAccount": obj(create=SWITCH, name=TEXT, annotations=WORDS),
        "podAnnotations": WORDS,
        "podLabels": WORDS,
        "nodeSelector": WORDS,
        "tolerations": OBJECTS,
        "affinity": ANY,
        "priorityClassName": TEXT,
        "topologySpread": {"type": "array", "items": {
            "type": "object", "required": ["topologyKey", "maxSkew", "whenUnsatisfiable"],
            "properties": {
                "topologyKey": NAME, "maxSkew": COUNT,
                "whenUnsatisfiable": choice("ScheduleAnyway", "DoNotSchedule"),
            },
        }},
        "rollout": obj(maxSurge=AMOUNT, maxUnavailable=AMOUNT),
        "disruptionBudget": obj(enabled=SWITCH, maxUnavailable=AMOUNT),
        "networkPolicy": obj(
            enabled=SWITCH, clients=OBJECTS, monitoring=OBJECTS, egress=OBJECTS
        ),
        "autoscaling": obj(
            kind=choice("none", "hpa", "keda"), minReplicas=COUNT, maxReplicas=COUNT,
            waitingRequests=COUNT, queueMilliseconds=COUNT,
            scaleDownStabilizationSeconds={"type": "integer", "minimum": 0, "maximum": 3600},
            adapterRules=SWITCH,
            keda=obj(
                prometheus={"type": "string", "pattern": "^(https?://.+)?$"},
                pollingIntervalSeconds=COUNT,
            ),
        ),
        "monitoring": obj(
            serviceMonitor=obj(enabled=SWITCH, intervalSeconds=COUNT, labels=WORDS),
            rules=obj(enabled=SWITCH, labels=WORDS, objectives=obj(
                availability=SHARE, latency=SHARE, latencySeconds={"enum": [*LATENCY_EDGES]},
            )),
            dashboards=obj(enabled=SWITCH, labels=WORDS, annotations=WORDS),
        ),
        "extraVolumes": OBJECTS,
        "extraInitContainers": OBJECTS,
        "extraObjects": OBJECTS,
        # Helm puts the library's values and those of all charts there.
        "trtserve-sidecar": ANY,
    })


def library(settings: Iterable[FieldInfo]) -> Schema:
    """Of the library trtserve-sidecar."""
    return _schema("Values of trtserve beside an application", {
        **_shared(settings),
        "native": SWITCH,
        "gpu": obj(enabled=SWITCH, count=COUNT, resource=NAME),
        "cache": obj(enabled=SWITCH, claimName=TEXT, sizeLimit=SIZE),
    })


def setting(field: FieldInfo) -> Schema:
    """What a setting takes, by its type."""
    if field.name in _CHOICES:
        return choice(*_CHOICES[field.name])
    if field.type is bool:
        return SWITCH
    if field.type is int:
        return {"type": "integer", "minimum": 0}
    if field.type is float:
        return {"type": "number", "minimum": 0}
    return TEXT


def _schema(title: str, properties: Schema) -> Schema:
    return {
        "$schema": "http://json-schema.org/draft-07/schema#", "title": title,
        **obj(**properties, **{"global": ANY}),
    }


def _shared(settings: Iterable[FieldInfo]) -> Schema:
    """What both have."""
    given = {
        field.name: setting(field) for field in settings
        if field.name not in OWN_VALUES and field.name not in SENSELESS
    }
    return {
        "image": obj(
            repository=NAME, tag={"type": "string", "pattern": "^[A-Za-z0-9_.-]*$"},
            digest={"type": "string", "pattern": "^(sha256:[0-9a-f]{64})?$"},
            pullPolicy=choice("Always", "IfNotPresent", "Never"),
        ),
        "host": NAME,
        "httpHost": TEXT,
        "ports": obj(grpc=PORT, http=PORT),
        "socket": obj(
            path=PATH, sizeLimit=SIZE, mode={"type": "string", "pattern": "^0?[0-7]{3}$"}
        ),
        "settings": obj(**given),
        "drain": obj(preStopSeconds=SECONDS, delaySeconds=SECONDS, timeoutSeconds=SECONDS),
        "probes": obj(
            startup=obj(budgetSeconds=COUNT, periodSeconds=COUNT),
            liveness=obj(periodSeconds=COUNT, timeoutSeconds=COUNT, failureThreshold=COUNT),
            readiness=obj(periodSeconds=COUNT, timeoutSeconds=COUNT, failureThreshold=COUNT),
        ),
        "models": obj(
            source=choice("baked", "pvc", "image", "objectStore"),
            path=PATH,
            pvc=obj(claimName=TEXT, subPath=TEXT),
            image=obj(
                reference=TEXT, pullPolicy=choice("Always", "IfNotPresent", "Never"), path=PATH,
                mount=choice("copy", "volume"),
            ),
            objectStore=obj(
                url={"type": "string", "pattern": "^((s3|gs|az|https?)://[^\\s'\"]+)?$"},
                tool=choice("rclone", "aws", "custom"), image=TEXT,
                command={"type": "array", "items": TEXT}, secretName=TEXT, env=OBJECTS,
            ),
            sizeLimit=SIZE, resources=ANY,
        ),
        "build": obj(enabled=SWITCH, sizeLimit=SIZE, models={"type": "array", "items": {
            **obj(
                model={"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9._-]*$"},
                file={"type": "string", "pattern": "^[A-Za-z0-9._/-]+$"},
                # They stand between quotes in a shell's command.
                arguments={"type": "array", "items": {"type": "string", "pattern": "^[^']*$"}},
            ),
            "required": ["model", "file"],
        }}),
        "access": obj(
            secretName=TEXT, key={"type": "string", "pattern": "^[A-Za-z0-9_-][A-Za-z0-9._-]*$"},
        ),
        "resources": ANY,
        "podSecurityContext": ANY,
        "securityContext": ANY,
        "tmpSizeLimit": SIZE,
        "extraEnv": OBJECTS,
        "extraVolumeMounts": OBJECTS,
    }
