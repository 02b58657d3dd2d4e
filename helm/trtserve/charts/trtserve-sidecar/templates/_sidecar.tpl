{{/* For the application's own pod template. Each takes the values of this library, which are
index .Values "trtserve-sidecar". examples/kubernetes/sidecar is a whole chart with it. */}}

{{/* For initContainers: what makes the models ready, and trtserve itself if it is native. */}}
{{- define "trtserve-sidecar.initContainers" -}}
{{- include "trtserve-sidecar.checks" . -}}
{{- include "trtserve-sidecar.prepare" . }}
{{- if .native }}
- {{ include "trtserve-sidecar.container" . | nindent 2 | trim }}
  # Kubernetes starts the next container when this one has started, and stops it last.
  restartPolicy: Always
{{- end }}
{{- end -}}

{{/* For containers: trtserve, if it is not native. */}}
{{- define "trtserve-sidecar.containers" -}}
{{- if not .native }}
- {{ include "trtserve-sidecar.container" . | nindent 2 | trim }}
{{- end }}
{{- end -}}

{{/* For volumes. */}}
{{- define "trtserve-sidecar.volumes" -}}
{{- include "trtserve-sidecar.podVolumes" . -}}
{{- end -}}

{{/* For volumeMounts of the application's container: the socket's folder. */}}
{{- define "trtserve-sidecar.mount" -}}
- name: trtserve-socket
  mountPath: {{ dir .socket.path }}
{{- end -}}

{{/* For env of the application's container: where trtserve is, as its command line and client
understand it. */}}
{{- define "trtserve-sidecar.address" -}}
- name: TRTSERVE_ADDRESS
  value: {{ printf "unix:%s" .socket.path | quote }}
{{- end -}}

{{/* For the pod's securityContext: the group that both containers share the socket in. */}}
{{- define "trtserve-sidecar.podSecurityContext" -}}
{{- toYaml .podSecurityContext -}}
{{- end -}}

{{/* For terminationGracePeriodSeconds: the seconds that trtserve takes to stop, behind those that
the application takes if trtserve is native. Takes (list VALUES SECONDS). */}}
{{- define "trtserve-sidecar.terminationGracePeriodSeconds" -}}
{{- $values := index . 0 -}}
{{- $application := ceil (index . 1) | int -}}
{{- $own := include "trtserve-sidecar.graceSeconds" $values | int -}}
{{- if $values.native -}}
{{- add $application $own -}}
{{- else -}}
{{- max $application $own -}}
{{- end -}}
{{- end -}}
