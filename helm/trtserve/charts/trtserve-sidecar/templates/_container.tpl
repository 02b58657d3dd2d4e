{{/* The image's reference. Takes the values. */}}
{{- define "trtserve-sidecar.image" -}}
{{- $kind := ternary "cuda" "cpu" .gpu.enabled -}}
{{- $version := include "trtserve-sidecar.version" . -}}
{{- $tag := .image.tag | default (printf "%s-%s" $version $kind) -}}
{{- .image.repository }}:{{ $tag }}{{ with .image.digest }}@{{ . }}{{ end }}
{{- end -}}

{{/* Seconds for everything that happens between the pod's deletion and its end. trtserve kills what
is left 5 s after its drain timeout; 2 s are for the kubelet. Takes the values. */}}
{{- define "trtserve-sidecar.graceSeconds" -}}
{{- $drain := .drain -}}
{{- add (ceil $drain.preStopSeconds | int) (ceil $drain.delaySeconds | int)
    (ceil $drain.timeoutSeconds | int) 7 -}}
{{- end -}}

{{/* How often something that is looked at each PERIOD may fail within a budget: the budget over
the period, upwards, and at least once. Takes (list BUDGET PERIOD). */}}
{{- define "trtserve-sidecar.attempts" -}}
{{- $period := int (index . 1) -}}
{{- max 1 (div (add (int (index . 0)) $period -1) $period) -}}
{{- end -}}

{{/* Resources, with the GPUs. Takes the values. */}}
{{- define "trtserve-sidecar.resources" -}}
{{- $resources := deepCopy .resources -}}
{{- if .gpu.enabled -}}
{{- $limits := $resources.limits | default dict -}}
{{- $limits = set $limits .gpu.resource (int .gpu.count) -}}
{{- $resources = set $resources "limits" $limits -}}
{{- end -}}
{{- toYaml $resources -}}
{{- end -}}

{{/* What the serving container and the one that builds plans have mounted. Takes the values. */}}
{{- define "trtserve-sidecar.commonMounts" -}}
- name: trtserve-tmp
  mountPath: /tmp
{{- if .cache.enabled }}
- name: trtserve-cache
  mountPath: /var/cache/trtserve
  subPath: trtserve
{{- end }}
{{- end -}}

{{/* trtserve's container, without what only one mode has. Takes the values. */}}
{{- define "trtserve-sidecar.container" -}}
name: trtserve
image: {{ include "trtserve-sidecar.image" . | quote }}
imagePullPolicy: {{ .image.pullPolicy }}
args: [serve]
env:
  {{- include "trtserve-sidecar.environment" . | nindent 2 }}
ports:
  - name: trtserve-grpc
    containerPort: {{ .ports.grpc }}
    protocol: TCP
  - name: trtserve-http
    containerPort: {{ .ports.http }}
    protocol: TCP
startupProbe:
  httpGet: {path: /readyz, port: trtserve-http}
  periodSeconds: {{ .probes.startup.periodSeconds }}
  timeoutSeconds: 5
  failureThreshold: {{ include "trtserve-sidecar.attempts"
    (list .probes.startup.budgetSeconds .probes.startup.periodSeconds) }}
livenessProbe:
  httpGet: {path: /livez, port: trtserve-http}
  {{- toYaml .probes.liveness | nindent 2 }}
readinessProbe:
  httpGet: {path: /readyz, port: trtserve-http}
  {{- toYaml .probes.readiness | nindent 2 }}
{{- if gt (float64 .drain.preStopSeconds) 0.0 }}
lifecycle:
  preStop:
    exec:
      command: [sleep, {{ include "trtserve-sidecar.text" .drain.preStopSeconds | quote }}]
{{- end }}
terminationMessagePolicy: FallbackToLogsOnError
resources:
  {{- include "trtserve-sidecar.resources" . | nindent 2 }}
securityContext:
  {{- toYaml .securityContext | nindent 2 }}
volumeMounts:
  {{- include "trtserve-sidecar.commonMounts" . | nindent 2 }}
  - name: trtserve-socket
    mountPath: {{ dir .socket.path }}
  {{- include "trtserve-sidecar.servedMount" . | nindent 2 }}
  {{- with .tls }}
  {{- if .secretName }}
  # Whole, and no file by subPath: only so a new certificate arrives.
  - name: trtserve-tls
    mountPath: /etc/trtserve/tls
    readOnly: true
  {{- end }}
  {{- end }}
  {{- if .access.secretName }}
  - name: trtserve-access
    mountPath: /etc/trtserve/access
    readOnly: true
  {{- end }}
  {{- with .extraVolumeMounts }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end -}}
