{{/* How models get into the pod. The rule behind all of it: trtserve refuses a plan that others
can write, or that lies in a folder which others can write, and the root of an emptyDir is one. So
what fills a volume makes a folder of its own there, and that folder alone is mounted. */}}

{{/* Whether an init container copies models into an emptyDir. Takes the values. */}}
{{- define "trtserve-sidecar.copied" -}}
{{- $models := .models -}}
{{- $image := and (eq $models.source "image") (eq $models.image.mount "copy") -}}
{{- if or (eq $models.source "objectStore") $image -}}
yes
{{- end -}}
{{- end -}}

{{/* The mount of the models as they came; none where they are in the image. */}}
{{- define "trtserve-sidecar.sourceMount" -}}
{{- if include "trtserve-sidecar.copied" . -}}
- name: trtserve-models
  mountPath: {{ .models.path }}
  subPath: models
  readOnly: true
{{- else if eq .models.source "pvc" -}}
- name: trtserve-models
  mountPath: {{ .models.path }}
  {{- with .models.pvc.subPath }}
  subPath: {{ . | quote }}
  {{- end }}
  readOnly: true
{{- else if eq .models.source "image" -}}
- name: trtserve-models
  mountPath: {{ .models.path }}
  subPath: {{ trimPrefix "/" .models.image.path | quote }}
  readOnly: true
{{- end -}}
{{- end -}}

{{/* The mount of the models that are served: the plans, where they are built. */}}
{{- define "trtserve-sidecar.servedMount" -}}
{{- if .build.enabled -}}
- name: trtserve-plans
  mountPath: {{ .models.path }}
  subPath: models
  readOnly: true
{{- else -}}
{{- include "trtserve-sidecar.sourceMount" . -}}
{{- end -}}
{{- end -}}

{{/* The source as rclone writes it. Takes the URL. */}}
{{- define "trtserve-sidecar.rcloneSource" -}}
{{- if hasPrefix "s3://" . -}}
:s3:{{ trimPrefix "s3://" . }}
{{- else if hasPrefix "gs://" . -}}
:gcs:{{ trimPrefix "gs://" . }}
{{- else if hasPrefix "az://" . -}}
:azureblob:{{ trimPrefix "az://" . }}
{{- else -}}
:http:
{{- end -}}
{{- end -}}

{{/* The init container that copies from an object store. Takes the values. */}}
{{- define "trtserve-sidecar.fetch" -}}
{{- $store := .models.objectStore -}}
- name: trtserve-fetch-models
  {{- if eq $store.tool "rclone" }}
  image: {{ $store.image | default "rclone/rclone:1.71.2" | quote }}
  {{- else if eq $store.tool "aws" }}
  image: {{ $store.image | default "amazon/aws-cli:2.31.0" | quote }}
  {{- else }}
  image: {{ $store.image | quote }}
  {{- end }}
  imagePullPolicy: IfNotPresent
  {{- if eq $store.tool "rclone" }}
  command:
    - sh
    - -c
    - umask 022 && mkdir -p "$TARGET" && exec rclone copy --transfers 8 "$SOURCE" "$TARGET"
  {{- else if eq $store.tool "aws" }}
  command:
    - sh
    - -c
    - umask 022 && mkdir -p "$TARGET" && exec aws s3 sync --only-show-errors "$URL" "$TARGET"
  {{- else }}
  command:
    {{- toYaml $store.command | nindent 4 }}
  {{- end }}
  env:
    - name: URL
      value: {{ $store.url | quote }}
    - name: TARGET
      value: /fetched/models
    - name: HOME
      value: /tmp
    {{- if eq $store.tool "rclone" }}
    - name: SOURCE
      value: {{ include "trtserve-sidecar.rcloneSource" $store.url | quote }}
    {{- if hasPrefix "http" $store.url }}
    - name: RCLONE_HTTP_URL
      value: {{ $store.url | quote }}
    {{- else }}
    # Credentials from the environment, or those of the node or the service account.
    {{- range list "S3" "GCS" "AZUREBLOB" }}
    - name: RCLONE_{{ . }}_ENV_AUTH
      value: "true"
    {{- end }}
    {{- end }}
    {{- end }}
    {{- with $store.env }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- with $store.secretName }}
  envFrom:
    - secretRef: {name: {{ . | quote }}}
  {{- end }}
  resources:
    {{- toYaml .models.resources | nindent 4 }}
  securityContext:
    {{- toYaml .securityContext | nindent 4 }}
  volumeMounts:
    - name: trtserve-tmp
      mountPath: /tmp
    - name: trtserve-models
      mountPath: /fetched
{{- end -}}

{{/* The init container that copies out of an image. Takes the values. */}}
{{- define "trtserve-sidecar.unpack" -}}
- name: trtserve-unpack-models
  image: {{ .models.image.reference | quote }}
  imagePullPolicy: {{ .models.image.pullPolicy }}
  command:
    - sh
    - -c
    - umask 022 && mkdir -p "$TARGET" && exec cp -RL "$SOURCE/." "$TARGET"
  env:
    - name: SOURCE
      value: {{ .models.image.path | quote }}
    - name: TARGET
      value: /fetched/models
  resources:
    {{- toYaml .models.resources | nindent 4 }}
  securityContext:
    {{- toYaml .securityContext | nindent 4 }}
  volumeMounts:
    - name: trtserve-models
      mountPath: /fetched
{{- end -}}

{{/* The init container that makes the cache's folder, which nobody else may write. */}}
{{- define "trtserve-sidecar.prepareCache" -}}
- name: trtserve-prepare-cache
  image: {{ include "trtserve-sidecar.image" . | quote }}
  imagePullPolicy: {{ .image.pullPolicy }}
  command: [sh, -c, umask 077 && mkdir -p /volume/trtserve/build /volume/trtserve/cuda]
  resources:
    {{- toYaml .models.resources | nindent 4 }}
  securityContext:
    {{- toYaml .securityContext | nindent 4 }}
  volumeMounts:
    - name: trtserve-cache
      mountPath: /volume
{{- end -}}

{{/* The init container that builds plans on the GPU that will serve them. Takes the values. */}}
{{- define "trtserve-sidecar.buildPlans" -}}
{{- $path := .models.path -}}
- name: trtserve-build-plans
  image: {{ include "trtserve-sidecar.image" . | quote }}
  imagePullPolicy: {{ .image.pullPolicy }}
  # An attempt that was broken off leaves nothing to the next one but the cache.
  command:
    - sh
    - -c
    - |
      set -eu
      umask 022
      rm -rf /plans/models
      mkdir -p /plans/models
      {{- range .build.models }}
      trtserve build '{{ $path }}/{{ .file }}' --repository /plans/models --name '{{ .model }}'
      {{- range .arguments }} '{{ . }}'{{ end }}
      {{- end }}
  env:
    {{- include "trtserve-sidecar.environment" . | nindent 4 }}
  resources:
    {{- include "trtserve-sidecar.resources" . | nindent 4 }}
  securityContext:
    {{- toYaml .securityContext | nindent 4 }}
  volumeMounts:
    {{- include "trtserve-sidecar.commonMounts" . | nindent 4 }}
    - name: trtserve-plans
      mountPath: /plans
    {{- include "trtserve-sidecar.sourceMount" . | nindent 4 }}
{{- end -}}

{{/* All init containers that make the models ready, in their order. Takes the values. */}}
{{- define "trtserve-sidecar.prepare" -}}
{{- if eq .models.source "objectStore" }}
{{ include "trtserve-sidecar.fetch" . }}
{{- else if include "trtserve-sidecar.copied" . }}
{{ include "trtserve-sidecar.unpack" . }}
{{- end }}
{{- if .cache.enabled }}
{{ include "trtserve-sidecar.prepareCache" . }}
{{- end }}
{{- if .build.enabled }}
{{ include "trtserve-sidecar.buildPlans" . }}
{{- end }}
{{- end -}}
