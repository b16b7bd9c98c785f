{{/*
Where the agent finds its files: one projected volume with the configuration, certificates and credentials, replaced as
a whole when one of them changes; and a volume for each Secret that is a store.
*/}}
{{- define "hybrid-runner.volumes" -}}
- name: files
  projected:
    defaultMode: 0440
    sources:
      - configMap:
          name: {{ include "hybrid-runner.fullname" . }}
          items: [{key: hybrid-runner.yaml, path: hybrid-runner.yaml}]
      {{- with include "hybrid-runner.sources" . | trim }}{{ . | nindent 6 }}{{ end }}
{{- range .Values.secretStores }}
{{- $name := .name }}
{{- with (.file).existingSecret }}
- name: store-{{ $name }}
  secret:
    secretName: {{ .name }}
    defaultMode: 0440
    {{- with .items }}
    items:
      {{- toYaml . | nindent 6 }}
    {{- end }}
{{- end }}
{{- end }}
{{- with .Values.extraVolumes }}
{{ include "hybrid-runner.evaluated" (list $ .) }}
{{- end }}
{{- end -}}

{{- define "hybrid-runner.mounts" -}}
- {name: files, mountPath: /etc/hybrid-runner, readOnly: true}
{{- range .Values.secretStores }}
{{- if (.file).existingSecret }}
- {name: store-{{ .name }}, mountPath: /var/run/secrets/hybrid-runner/{{ .name }}, readOnly: true}
{{- end }}
{{- end }}
{{- with .Values.extraVolumeMounts }}
{{ include "hybrid-runner.evaluated" (list $ .) }}
{{- end }}
{{- end -}}

{{/* What the projected volume is made of, beside the configuration. */}}
{{- define "hybrid-runner.sources" -}}
{{- with .Values.auth }}
{{- include "hybrid-runner.pair" (list .mtls "identity/tls") }}
{{- include "hybrid-runner.secret" (list .token "token" "identity/token") }}
{{- end }}
{{- include "hybrid-runner.ca" (list .Values.controlPlane.tls.caBundle "control-plane/ca.crt") }}
{{- include "hybrid-runner.ca" (list .Values.caBundle "ca/ca.crt") }}
{{- include "hybrid-runner.ca" (list .Values.otel.caBundle "otel/ca.crt") }}
{{- range $index, $host := .Values.salesforce.hosts }}
{{- include "hybrid-runner.ca" (list $host.caBundle (printf "salesforce/%d.crt" $index)) }}
{{- end }}
{{- range .Values.secretStores }}
{{- $folder := printf "stores/%s" .name }}
{{- with .vault }}
{{- include "hybrid-runner.ca" (list .caBundle (printf "%s/ca.crt" $folder)) }}
{{- include "hybrid-runner.pair" (list .clientCertificate (printf "%s/client" $folder)) }}
{{- $login := printf "%s/login" $folder }}
{{- with .auth }}
{{- with .kubernetes }}{{ include "hybrid-runner.serviceAccountToken" (list (default "vault" .audience) $login) }}{{ end }}
{{- with .jwt }}{{ if not .tokenFile }}{{ include "hybrid-runner.serviceAccountToken" (list (default "vault" .audience) $login) }}{{ end }}{{ end }}
{{- with .approle }}{{ include "hybrid-runner.secret" (list .secretId "secret-id" $login) }}{{ end }}
{{- include "hybrid-runner.secret" (list .token "token" $login) }}
{{- end }}
{{- end }}
{{- with .kubernetes }}
{{- if .address }}
{{- include "hybrid-runner.secret" (list .token "token" (printf "%s/token" $folder)) }}
{{- include "hybrid-runner.ca" (list .caBundle (printf "%s/ca.crt" $folder)) }}
{{- else }}
{{- include "hybrid-runner.serviceAccountToken" (list "" (printf "%s/token" $folder)) }}
- configMap:
    name: kube-root-ca.crt
    items: [{key: ca.crt, path: {{ $folder }}/ca.crt}]
{{- end }}
{{- end }}
{{- end }}
{{- end -}}

{{/* A key of a Secret: (list {existingSecret} DEFAULT-KEY PATH). */}}
{{- define "hybrid-runner.secret" -}}
{{- $key := index . 1 -}}
{{- $path := index . 2 -}}
{{- with (index . 0).existingSecret }}
- secret:
    name: {{ .name }}
    items: [{key: {{ default $key .key }}, path: {{ $path }}}]
{{- end }}
{{- end -}}

{{/* A certificate and its key: (list {existingSecret} PATH-WITHOUT-EXTENSION). */}}
{{- define "hybrid-runner.pair" -}}
{{- $path := index . 1 -}}
{{- with (index . 0).existingSecret }}
- secret:
    name: {{ .name }}
    items:
      - {key: {{ default "tls.crt" .certificateKey }}, path: {{ $path }}.crt}
      - {key: {{ default "tls.key" .privateKeyKey }}, path: {{ $path }}.key}
{{- end }}
{{- end -}}

{{/* Certificates of authorities: (list {existingSecret or configMap} PATH). */}}
{{- define "hybrid-runner.ca" -}}
{{- $path := index . 1 -}}
{{- $bundle := default dict (index . 0) -}}
{{- include "hybrid-runner.secret" (list $bundle "ca.crt" $path) }}
{{- with $bundle.configMap }}
- configMap:
    name: {{ .name }}
    items: [{key: {{ default "ca.crt" .key }}, path: {{ $path }}}]
{{- end }}
{{- end -}}

{{/* The token of the pod's service account, for ten minutes, the least that Kubernetes gives; it is replaced in time. */}}
{{- define "hybrid-runner.serviceAccountToken" }}
- serviceAccountToken:
    {{- with index . 0 }}
    audience: {{ . }}
    {{- end }}
    expirationSeconds: 600
    path: {{ index . 1 }}
{{- end -}}
