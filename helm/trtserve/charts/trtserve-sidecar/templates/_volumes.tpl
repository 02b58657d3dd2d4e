{{/* The volumes of trtserve's containers. Takes the values and, for a claim that the chart itself
makes, its name as cacheClaim. */}}
{{- define "trtserve-sidecar.podVolumes" -}}
- name: trtserve-tmp
  emptyDir:
    sizeLimit: {{ .tmpSizeLimit }}
- name: trtserve-socket
  emptyDir:
    medium: Memory
    sizeLimit: {{ .socket.sizeLimit }}
{{- if include "trtserve-sidecar.copied" . }}
- name: trtserve-models
  emptyDir:
    sizeLimit: {{ .models.sizeLimit }}
{{- else if eq .models.source "pvc" }}
- name: trtserve-models
  persistentVolumeClaim:
    claimName: {{ .models.pvc.claimName | quote }}
    readOnly: true
{{- else if eq .models.source "image" }}
- name: trtserve-models
  image:
    reference: {{ .models.image.reference | quote }}
    pullPolicy: {{ .models.image.pullPolicy }}
{{- end }}
{{- if .build.enabled }}
- name: trtserve-plans
  emptyDir:
    sizeLimit: {{ .build.sizeLimit }}
{{- end }}
{{- if .cache.enabled }}
- name: trtserve-cache
  {{- with .cacheClaim | default .cache.claimName }}
  persistentVolumeClaim:
    claimName: {{ . | quote }}
  {{- else }}
  emptyDir:
    sizeLimit: {{ .cache.sizeLimit }}
  {{- end }}
{{- end }}
{{- with .tls }}
{{- if .secretName }}
- name: trtserve-tls
  secret:
    secretName: {{ .secretName | quote }}
    # The group is the pod's fsGroup; nobody else may read the key.
    defaultMode: 0440
{{- end }}
{{- end }}
{{- if .access.secretName }}
- name: trtserve-access
  secret:
    secretName: {{ .access.secretName | quote }}
    defaultMode: 0440
{{- end }}
{{- end -}}
