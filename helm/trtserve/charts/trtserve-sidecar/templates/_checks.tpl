{{/* What the schema can not say well: values that need one another. Takes the values. */}}
{{- define "trtserve-sidecar.checks" -}}
{{- if gt (len .socket.path) 100 -}}
{{- fail (printf "socket.path is %d bytes long; a Unix socket's path may have 100. Choose a shorter one." (len .socket.path)) -}}
{{- end -}}
{{- /* Numbers of --set and of files have types of their own. */ -}}
{{- if eq (int .ports.grpc) (int .ports.http) -}}
{{- fail "ports.grpc and ports.http are the same. Choose two." -}}
{{- end -}}
{{- $models := .models -}}
{{- if and (eq $models.source "pvc") (not $models.pvc.claimName) -}}
{{- fail "models.source is pvc, and models.pvc.claimName is empty. Name the claim that has the models." -}}
{{- end -}}
{{- if and (eq $models.source "image") (not $models.image.reference) -}}
{{- fail "models.source is image, and models.image.reference is empty. Name the image that has the models." -}}
{{- end -}}
{{- if eq $models.source "objectStore" -}}
{{- $store := $models.objectStore -}}
{{- if not $store.url -}}
{{- fail "models.source is objectStore, and models.objectStore.url is empty. Say where the models are, such as s3://bucket/models." -}}
{{- end -}}
{{- if and (eq $store.tool "aws") (not (hasPrefix "s3://" $store.url)) -}}
{{- fail (printf "models.objectStore.tool is aws, which takes s3:// only, and the url is %s. Use rclone." $store.url) -}}
{{- end -}}
{{- if and (eq $store.tool "custom") (not (and $store.image $store.command)) -}}
{{- fail "models.objectStore.tool is custom: it needs models.objectStore.image and models.objectStore.command." -}}
{{- end -}}
{{- end -}}
{{- if .build.enabled -}}
{{- if not .gpu.enabled -}}
{{- fail "build.enabled makes plans for a GPU, and gpu.enabled is false. Set it, or turn build off." -}}
{{- end -}}
{{- if not .build.models -}}
{{- fail "build.enabled is set, and build.models is empty. List the models to build plans for." -}}
{{- end -}}
{{- end -}}
{{- end -}}
