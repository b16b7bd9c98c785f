{{/* What the agent connects to, as a list of {host, port}: every address in the values, and Salesforce. */}}
{{- define "hybrid-runner.destinations" -}}
{{- $addresses := list .Values.controlPlane.endpoint .Values.proxy.httpsProxy .Values.salesforce.proxy.url .Values.controlPlane.proxy.url (regexFind "^https?://[^/]+" .Values.otel.endpoint) -}}
{{- range .Values.secretStores -}}
{{- $addresses = append $addresses (.vault).address -}}
{{- $addresses = append $addresses (.kubernetes).address -}}
{{- if hasKey . "aws" -}}
{{- $addresses = append $addresses (default (printf "https://secretsmanager.%s.amazonaws.com" (default "*" .aws.region)) .aws.endpoint) -}}
{{- $addresses = append $addresses (printf "https://sts.%s.amazonaws.com" (default "*" .aws.region)) -}}
{{- $addresses = append $addresses "https://sts.amazonaws.com" -}}
{{- end -}}
{{- end -}}
{{- /* In a policy of Cilium a `*` stands for one label. */ -}}
{{- $addresses = concat $addresses (list "https://*.salesforce.com" "https://*.my.salesforce.com" "https://*.sandbox.my.salesforce.com") -}}
{{- range .Values.salesforce.hosts -}}
{{- $addresses = append $addresses (printf "https://%s:%v" .host (default 443 .port)) -}}
{{- end -}}
{{- range compact $addresses | uniq }}
{{- $authority := regexReplaceAll "^https?://|/$" . "" }}
{{- $port := regexFind ":[0-9]+$" $authority }}
- {host: {{ trimSuffix $port $authority | quote }}, port: {{ default (hasPrefix "http:" . | ternary "80" "443") (trimPrefix ":" $port) }}}
{{- end }}
{{- end -}}

{{/* Whether a store asks this cluster's API server. */}}
{{- define "hybrid-runner.asksApiServer" -}}
{{- range .Values.secretStores }}{{ with .kubernetes }}{{ if not .address }}yes{{ end }}{{ end }}{{ end -}}
{{- end -}}

{{/* The port of probes and metrics. */}}
{{- define "hybrid-runner.healthPort" -}}
{{- regexFind "[0-9]+$" .Values.health.listen -}}
{{- end -}}
