{{/* The name of an image: casefile.image with a list of the root context and the program. */}}
{{- define "casefile.image" -}}
{{- $root := index . 0 -}}
{{- $root.Values.image.prefix }}{{ index . 1 }}:{{ $root.Values.image.tag | default $root.Chart.AppVersion }}
{{- end }}

{{/* What both kinds of pods say about pulling. */}}
{{- define "casefile.pullSecrets" -}}
{{- range .Values.image.pullSecrets }}
- {name: {{ . | quote }}}
{{- end }}
{{- end }}

{{/* The labels of what a Prometheus operator selects. */}}
{{- define "casefile.monitoringLabels" -}}
{{- merge (dict "app.kubernetes.io/name" "casefile" "app.kubernetes.io/component" "monitoring") .Values.monitoring.labels | toJson -}}
{{- end }}

{{/* The TCP ports of the targets, each once, as a list. */}}
{{- define "casefile.targetPorts" -}}
{{- $ports := list -}}
{{- range .Values.collector.targets -}}
{{- $url := urlParse .url -}}
{{- if ne $url.scheme "dns" -}}
{{- $said := regexFind ":[0-9]+$" $url.host | trimPrefix ":" -}}
{{- $ports = append $ports ($said | default (ternary "80" "443" (eq $url.scheme "http")) | int) -}}
{{- end -}}
{{- end -}}
{{- $ports | uniq | toJson -}}
{{- end }}

{{/* The TCP port of the archive store. */}}
{{- define "casefile.archiveStorePort" -}}
{{- $url := urlParse .Values.collector.archiveStore.endpoint -}}
{{- regexFind ":[0-9]+$" $url.host | trimPrefix ":" | default (ternary "80" "443" (eq $url.scheme "http")) -}}
{{- end }}
