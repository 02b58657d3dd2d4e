{{/* The version of trtserve that this chart is for. */}}
{{- define "trtserve-sidecar.version" -}}
0.1.0
{{- end -}}

{{/* A value as an environment variable has it. Helm reads numbers as floats: 536870912 must not
become 5.36870912e+08. */}}
{{- define "trtserve-sidecar.text" -}}
{{- if kindIs "float64" . -}}
{{- if eq . (floor .) -}}
{{- printf "%.0f" . -}}
{{- else -}}
{{- . -}}
{{- end -}}
{{- else -}}
{{- . -}}
{{- end -}}
{{- end -}}

{{/* One variable. Takes (list NAME VALUE). */}}
{{- define "trtserve-sidecar.variable" -}}
- name: {{ index . 0 }}
  value: {{ include "trtserve-sidecar.text" (index . 1) | quote }}
{{ end -}}

{{/* The devices that `auto` should find. They are named, so that a pod whose GPU can not be used
fails aloud instead of serving from the CPU. */}}
{{- define "trtserve-sidecar.devices" -}}
{{- if not .gpu.enabled -}}
cpu
{{- else -}}
{{- $names := list -}}
{{- range $number := until (int .gpu.count) -}}
{{- $names = append $names (printf "cuda:%d" $number) -}}
{{- end -}}
{{- join "," $names -}}
{{- end -}}
{{- end -}}

{{/* What every mode tells trtserve. Takes the values. Each mode puts its own behind it, then come
`settings` and `extraEnv`. */}}
{{- define "trtserve-sidecar.environment" -}}
{{- include "trtserve-sidecar.variable" (list "TRTSERVE_REPOSITORY" .models.path) }}
{{- include "trtserve-sidecar.variable" (list "TRTSERVE_HOST" .host) }}
{{- with .httpHost }}
{{- include "trtserve-sidecar.variable" (list "TRTSERVE_HTTP_HOST" .) }}
{{- end }}
{{- include "trtserve-sidecar.variable" (list "TRTSERVE_GRPC_PORT" .ports.grpc) }}
{{- include "trtserve-sidecar.variable" (list "TRTSERVE_HTTP_PORT" .ports.http) }}
{{- include "trtserve-sidecar.variable" (list "TRTSERVE_SOCKET" .socket.path) }}
{{- include "trtserve-sidecar.variable" (list "TRTSERVE_SOCKET_MODE" .socket.mode) }}
{{- include "trtserve-sidecar.variable" (list "TRTSERVE_DRAIN_DELAY_SECONDS" .drain.delaySeconds) }}
{{- include "trtserve-sidecar.variable"
    (list "TRTSERVE_DRAIN_TIMEOUT_SECONDS" .drain.timeoutSeconds) }}
{{- with .grpc }}
{{- include "trtserve-sidecar.variable"
    (list "TRTSERVE_GRPC_MAX_CONNECTION_AGE_SECONDS" .maxConnectionAgeSeconds) }}
{{- include "trtserve-sidecar.variable"
    (list "TRTSERVE_GRPC_MAX_CONNECTION_AGE_GRACE_SECONDS" .maxConnectionAgeGraceSeconds) }}
{{- end }}
{{- with .tls }}
{{- if .secretName }}
{{- include "trtserve-sidecar.variable"
    (list "TRTSERVE_TLS_CERTIFICATE" "/etc/trtserve/tls/tls.crt") }}
{{- include "trtserve-sidecar.variable" (list "TRTSERVE_TLS_KEY" "/etc/trtserve/tls/tls.key") }}
{{- if .clientCertificates }}
{{- include "trtserve-sidecar.variable"
    (list "TRTSERVE_TLS_CLIENT_CA" "/etc/trtserve/tls/ca.crt") }}
{{- end }}
{{- end }}
{{- end }}
{{- if .access.secretName }}
{{- include "trtserve-sidecar.variable"
    (list "TRTSERVE_ACCESS_FILE" (printf "/etc/trtserve/access/%s" .access.key)) }}
{{- end }}
{{- if hasKey . "native" }}
{{- /* Beside an application: both containers have the group, whatever their users. */}}
{{- if and .podSecurityContext.fsGroup (not (hasKey .settings "socket_group")) }}
{{- include "trtserve-sidecar.variable"
    (list "TRTSERVE_SOCKET_GROUP" .podSecurityContext.fsGroup) }}
{{- end }}
{{- end }}
{{- if not (hasKey .settings "devices") }}
{{- include "trtserve-sidecar.variable"
    (list "TRTSERVE_DEVICES" (include "trtserve-sidecar.devices" .)) }}
{{- end }}
{{- range $name, $value := .settings }}
{{- include "trtserve-sidecar.variable" (list (printf "TRTSERVE_%s" (upper $name)) $value) }}
{{- end }}
{{- if .cache.enabled }}
{{- include "trtserve-sidecar.variable" (list "TRTSERVE_CACHE" "/var/cache/trtserve/build") }}
{{- include "trtserve-sidecar.variable" (list "CUDA_CACHE_PATH" "/var/cache/trtserve/cuda") }}
{{- end }}
{{- /* Libraries that keep something at home find a place that can be written. */}}
{{- include "trtserve-sidecar.variable" (list "HOME" "/tmp") }}
{{- with .extraEnv }}
{{- toYaml . }}
{{ end }}
{{- end -}}
