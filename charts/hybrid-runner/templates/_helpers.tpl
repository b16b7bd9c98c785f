{{/* Names and labels. Names leave 14 characters for suffixes. */}}
{{- define "hybrid-runner.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 49 | trimSuffix "-" -}}
{{- end -}}

{{- define "hybrid-runner.fullname" -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- $full := ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) -}}
{{- default $full .Values.fullnameOverride | trunc 49 | trimSuffix "-" -}}
{{- end -}}

{{- define "hybrid-runner.namespace" -}}
{{- default .Release.Namespace .Values.namespaceOverride -}}
{{- end -}}

{{- define "hybrid-runner.serviceAccountName" -}}
{{- $default := ternary (include "hybrid-runner.fullname" .) "default" .Values.serviceAccount.create -}}
{{- default $default .Values.serviceAccount.name -}}
{{- end -}}

{{/* What selects every pod of the release. */}}
{{- define "hybrid-runner.selector" -}}
app.kubernetes.io/name: {{ include "hybrid-runner.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{/* What selects the agents, and not the pod of `helm test`. */}}
{{- define "hybrid-runner.agentSelector" -}}
{{ include "hybrid-runner.selector" . }}
app.kubernetes.io/component: agent
{{- end -}}

{{/* Labels: (list ROOT MAPPING…). The chart's own win, because they are selected by; then the first mapping that has one. */}}
{{- define "hybrid-runner.labels" -}}
{{- $root := first . -}}
{{- $labels := include "hybrid-runner.selector" $root | fromYaml -}}
{{- $_ := set $labels "app.kubernetes.io/version" $root.Chart.AppVersion -}}
{{- $_ := set $labels "app.kubernetes.io/managed-by" $root.Release.Service -}}
{{- $_ := set $labels "helm.sh/chart" (printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-") -}}
{{- range rest . }}{{ $labels = merge $labels . }}{{ end -}}
{{- toYaml (merge $labels $root.Values.commonLabels) -}}
{{- end -}}

{{/* Annotations: (list ROOT MAPPING…), the first that has one wins. Nothing when there are none. */}}
{{- define "hybrid-runner.annotations" -}}
{{- $annotations := dict -}}
{{- range rest . }}{{ $annotations = merge $annotations . }}{{ end -}}
{{- with merge $annotations (first .).Values.commonAnnotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* Name, namespace, labels and annotations of an object: (list ROOT SUFFIX), with another namespace as third. */}}
{{- define "hybrid-runner.metadata" -}}
{{- $root := index . 0 -}}
name: {{ include "hybrid-runner.fullname" $root }}{{ index . 1 }}
namespace: {{ gt (len .) 2 | ternary (last .) (include "hybrid-runner.namespace" $root) }}
labels:
  {{- include "hybrid-runner.labels" (list $root) | nindent 2 }}
{{- include "hybrid-runner.annotations" (list $root) }}
{{- end -}}

{{- define "hybrid-runner.image" -}}
{{- $image := .Values.image -}}
{{- $registry := default $image.registry .Values.global.imageRegistry -}}
{{- $name := ternary (printf "%s/%s" $registry $image.repository) $image.repository (not (empty $registry)) -}}
{{- if $image.digest -}}
{{ $name }}@{{ $image.digest }}
{{- else -}}
{{ $name }}:{{ default .Chart.AppVersion $image.tag }}
{{- end -}}
{{- end -}}

{{/* A list or mapping of `extra…`, its templates evaluated: (list ROOT VALUE). */}}
{{- define "hybrid-runner.evaluated" -}}
{{- $root := index . 0 -}}
{{- $value := index . 1 -}}
{{- tpl (kindIs "string" $value | ternary $value (toYaml $value)) $root -}}
{{- end -}}
