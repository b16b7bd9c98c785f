{{/* What the agent's pods and the pod of `helm test` have in common. */}}
{{- define "hybrid-runner.podSpec" -}}
serviceAccountName: {{ include "hybrid-runner.serviceAccountName" . }}
automountServiceAccountToken: false
enableServiceLinks: false
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
securityContext:
  {{- $context := .Values.podSecurityContext }}
  {{- if .Values.openshift.enabled }}{{ $context = omit $context "runAsUser" "runAsGroup" "fsGroup" }}{{ end }}
  {{- toYaml $context | nindent 2 }}
{{- range $key := list "nodeSelector" "tolerations" "affinity" "priorityClassName" "runtimeClassName" "schedulerName" "hostAliases" "dnsPolicy" "dnsConfig" }}
{{- with index $.Values $key }}
{{ $key }}:
  {{- if kindIs "string" . }} {{ . }}{{ else }}{{ toYaml . | nindent 2 }}{{ end }}
{{- end }}
{{- end }}
volumes:
  {{- include "hybrid-runner.volumes" . | trim | nindent 2 }}
{{- end -}}

{{/* The program's container, without name and arguments. */}}
{{- define "hybrid-runner.container" -}}
image: {{ include "hybrid-runner.image" . | quote }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
{{- with include "hybrid-runner.env" . | trim }}
env:
  {{- . | nindent 2 }}
{{- end }}
{{- with .Values.extraEnvFrom }}
envFrom:
  {{- include "hybrid-runner.evaluated" (list $ .) | nindent 2 }}
{{- end }}
securityContext:
  {{- toYaml .Values.securityContext | nindent 2 }}
resources:
  {{- toYaml .Values.resources | nindent 2 }}
terminationMessagePolicy: FallbackToLogsOnError
volumeMounts:
  {{- include "hybrid-runner.mounts" . | trim | nindent 2 }}
{{- end -}}

{{- define "hybrid-runner.env" -}}
{{- $proxy := .Values.proxy }}
{{- range list "HTTPS_PROXY" "https_proxy" }}
{{- if $proxy.existingSecret }}
- name: {{ . }}
  valueFrom: {secretKeyRef: {name: {{ $proxy.existingSecret.name }}, key: {{ default "url" $proxy.existingSecret.key }}}}
{{- else if $proxy.httpsProxy }}
- name: {{ . }}
  value: {{ $proxy.httpsProxy | quote }}
{{- end }}
{{- end }}
{{- range list "NO_PROXY" "no_proxy" }}
{{- if $proxy.noProxy }}
- name: {{ . }}
  value: {{ $proxy.noProxy | quote }}
{{- end }}
{{- end }}
{{- if .Values.caBundle }}
# The first alone would stand in place of the image's own certificates, which lie in the second.
- name: SSL_CERT_FILE
  value: /etc/hybrid-runner/ca/ca.crt
- name: SSL_CERT_DIR
  value: /etc/ssl/certs
{{- end }}
{{- with .Values.otel }}
{{- if .endpoint }}
- name: OTEL_EXPORTER_OTLP_ENDPOINT
  value: {{ .endpoint | quote }}
- name: OTEL_EXPORTER_OTLP_PROTOCOL
  value: {{ .protocol | quote }}
{{- with .headers.existingSecret }}
- name: OTEL_EXPORTER_OTLP_HEADERS
  valueFrom: {secretKeyRef: {name: {{ .name }}, key: {{ default "headers" .key }}}}
{{- end }}
{{- if .caBundle }}
- name: OTEL_EXPORTER_OTLP_CERTIFICATE
  value: /etc/hybrid-runner/otel/ca.crt
{{- end }}
{{- end }}
{{- end }}
{{- with .Values.extraEnv }}
{{ include "hybrid-runner.evaluated" (list $ .) }}
{{- end }}
{{- end -}}
