{{- define "trtserve.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{/* What all objects are called: the release, and the chart's name if that is not in it. */}}
{{- define "trtserve.fullname" -}}
{{- $name := include "trtserve.name" . -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride -}}
{{- else if contains $name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* What pods are found by. It never changes, as a Deployment's selector must not. */}}
{{- define "trtserve.selector" -}}
app.kubernetes.io/name: {{ include "trtserve.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: server
{{- end -}}

{{/* Labels of every object. Takes (list ROOT COMPONENT). */}}
{{- define "trtserve.labels" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: {{ include "trtserve.name" $root }}
app.kubernetes.io/instance: {{ $root.Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/part-of: trtserve
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "trtserve.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- .Values.serviceAccount.name | default (include "trtserve.fullname" .) -}}
{{- else -}}
{{- .Values.serviceAccount.name | default "default" -}}
{{- end -}}
{{- end -}}

{{/* The claim that the chart makes for the cache, or nothing. */}}
{{- define "trtserve.cacheClaim" -}}
{{- $cache := .Values.cache -}}
{{- if and $cache.enabled $cache.create (not $cache.claimName) -}}
{{- printf "%s-cache" (include "trtserve.fullname" .) -}}
{{- end -}}
{{- end -}}

{{/* The values as the sidecar's templates take them. */}}
{{- define "trtserve.pod" -}}
{{- set (deepCopy .Values) "cacheClaim" (include "trtserve.cacheClaim" .) | toJson -}}
{{- end -}}
