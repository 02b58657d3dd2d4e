{{/* What the schema can not say well: values that need one another. */}}
{{- define "trtserve.checks" -}}
{{- include "trtserve-sidecar.checks" .Values -}}
{{- $autoscaling := .Values.autoscaling -}}
{{- if gt (int $autoscaling.minReplicas) (int $autoscaling.maxReplicas) -}}
{{- fail (printf "autoscaling.minReplicas is %d, more than autoscaling.maxReplicas, which is %d." (int $autoscaling.minReplicas) (int $autoscaling.maxReplicas)) -}}
{{- end -}}
{{- if and (eq $autoscaling.kind "keda") (not $autoscaling.keda.prometheus) -}}
{{- fail "autoscaling.kind is keda, and autoscaling.keda.prometheus is empty. Give Prometheus's address, such as http://prometheus-operated.monitoring:9090." -}}
{{- end -}}
{{- $rollout := .Values.rollout -}}
{{- if and (eq (toString $rollout.maxSurge) "0") (eq (toString $rollout.maxUnavailable) "0") -}}
{{- fail "rollout.maxSurge and rollout.maxUnavailable are both 0, so no rollout could go on. Set one of them." -}}
{{- end -}}
{{- if and .Values.tls.clientCertificates (not .Values.tls.secretName) -}}
{{- fail "tls.clientCertificates asks for TLS, and tls.secretName is empty. Name the secret with tls.crt, tls.key and ca.crt." -}}
{{- end -}}
{{- $cache := .Values.cache -}}
{{- if and $cache.create (not $cache.enabled) -}}
{{- fail "cache.create is set, and cache.enabled is false. Set both." -}}
{{- end -}}
{{- end -}}
