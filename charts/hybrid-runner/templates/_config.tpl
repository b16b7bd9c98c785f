{{/*
The agent's configuration. Scalar keys of the values have the names of its settings in camel case; credentials and
certificates are files beside it (_files.tpl), named relative to its folder.
*/}}
{{- define "hybrid-runner.config" -}}
{{- include "hybrid-runner.check" . -}}
{{- $values := .Values -}}
{{- $plane := dict "endpoint" $values.controlPlane.endpoint -}}
{{- if $values.controlPlane.tls.caBundle }}{{ $_ := set $plane "ca" "control-plane/ca.crt" }}{{ end -}}
{{- $_ := set $plane "use_system_proxy" $values.controlPlane.useSystemProxy -}}
{{- with $values.controlPlane.proxy }}{{ $_ := set $plane "proxy" . }}{{ end -}}
{{- if $values.auth.mtls -}}
{{- $_ := set $plane "tls" (dict "certificate" "identity/tls.crt" "key" "identity/tls.key") -}}
{{- else -}}
{{- $_ := set $plane "token_file" (default "identity/token" $values.auth.tokenFile) -}}
{{- end -}}
{{- $config := dict "control_plane" $plane "slots" $values.slots "drain_timeout" $values.drain.timeout "health" $values.health -}}
{{- /* Helm's numbers are floats, and large ones would be written as such. */ -}}
{{- $_ := set $config "log" (dict "level" $values.log.level "format" $values.log.format "run_bytes" (int $values.log.runBytes)) -}}
{{- if $values.secretStores -}}
{{- $stores := dict -}}
{{- range $values.secretStores -}}
{{- $_ := set $stores .name (include "hybrid-runner.store" . | fromYaml) -}}
{{- end -}}
{{- $_ := set $config "secrets" (dict "stores" $stores) -}}
{{- with $values.defaultStore }}{{ $_ := set $config.secrets "default" . }}{{ end -}}
{{- end -}}
{{- $salesforce := dict "use_system_proxy" $values.salesforce.useSystemProxy -}}
{{- with $values.salesforce.proxy }}{{ $_ := set $salesforce "proxy" . }}{{ end -}}
{{- $hosts := list -}}
{{- range $index, $host := $values.salesforce.hosts -}}
{{- $entry := omit $host "caBundle" -}}
{{- if $host.caBundle }}{{ $_ := set $entry "ca" (printf "salesforce/%d.crt" $index) }}{{ end -}}
{{- $hosts = append $hosts $entry -}}
{{- end -}}
{{- with $hosts }}{{ $_ := set $salesforce "hosts" . }}{{ end -}}
{{- $_ := set $config "salesforce" $salesforce -}}
{{- with $values.policy }}{{ $_ := set $config "policy" . }}{{ end -}}
{{- toYaml $config -}}
{{- end -}}

{{/* One of `secretStores`, as the agent's configuration has it. */}}
{{- define "hybrid-runner.store" -}}
{{- $folder := printf "stores/%s" .name -}}
{{- $store := dict -}}
{{- with .prefix }}{{ $_ := set $store "prefix" . }}{{ end -}}
{{- with .vault }}{{ $_ := set $store "vault" (include "hybrid-runner.vault" (dict "vault" . "folder" $folder) | fromYaml) }}{{ end -}}
{{- if hasKey . "aws" }}{{ $_ := set $store "aws" (include "hybrid-runner.snake" .aws | fromYaml) }}{{ end -}}
{{- with .kubernetes -}}
{{- $kubernetes := dict "token_file" (printf "%s/token" $folder) -}}
{{- with .address }}{{ $_ := set $kubernetes "address" . }}{{ end -}}
{{- if or .caBundle (not .address) }}{{ $_ := set $kubernetes "ca" (printf "%s/ca.crt" $folder) }}{{ end -}}
{{- $_ := set $store "kubernetes" $kubernetes -}}
{{- end -}}
{{- with .file }}{{ $_ := set $store "file" (dict "dir" (default (printf "/var/run/secrets/hybrid-runner/%s" $.name) .dir)) }}{{ end -}}
{{- if hasKey . "env" }}{{ $_ := set $store "env" (include "hybrid-runner.snake" .env | fromYaml) }}{{ end -}}
{{- toYaml $store -}}
{{- end -}}

{{- define "hybrid-runner.vault" -}}
{{- $folder := .folder -}}
{{- $vault := include "hybrid-runner.snake" (omit .vault "caBundle" "clientCertificate" "auth") | fromYaml -}}
{{- if .vault.caBundle }}{{ $_ := set $vault "ca" (printf "%s/ca.crt" $folder) }}{{ end -}}
{{- if .vault.clientCertificate -}}
{{- $_ := set $vault "client_certificate" (printf "%s/client.crt" $folder) -}}
{{- $_ := set $vault "client_key" (printf "%s/client.key" $folder) -}}
{{- end -}}
{{- $login := dict -}}
{{- with .vault.auth -}}
{{- with .kubernetes }}{{ $_ := set $login "kubernetes" (set (omit . "audience") "token_file" (printf "%s/login" $folder)) }}{{ end -}}
{{- with .jwt }}{{ $_ := set $login "jwt" (set (omit . "audience" "tokenFile") "token_file" (default (printf "%s/login" $folder) .tokenFile)) }}{{ end -}}
{{- with .approle -}}
{{- $approle := dict "role_id" .roleId "secret_id_file" (printf "%s/login" $folder) -}}
{{- with .mount }}{{ $_ := set $approle "mount" . }}{{ end -}}
{{- $_ := set $login "approle" $approle -}}
{{- end -}}
{{- if hasKey . "certificate" }}{{ $_ := set $login "certificate" (default dict .certificate) }}{{ end -}}
{{- if .token }}{{ $_ := set $login "token_file" (printf "%s/login" $folder) }}{{ end -}}
{{- with .tokenFile }}{{ $_ := set $login "token_file" . }}{{ end -}}
{{- end -}}
{{- toYaml (set $vault "auth" $login) -}}
{{- end -}}

{{/* The scalars of a mapping, with its keys as the agent writes them: kvVersion is kv_version. */}}
{{- define "hybrid-runner.snake" -}}
{{- $snake := dict -}}
{{- range $key, $value := . }}{{ $_ := set $snake (snakecase $key) $value }}{{ end -}}
{{- toYaml $snake -}}
{{- end -}}

{{/* What the schema cannot say. */}}
{{- define "hybrid-runner.check" -}}
{{- $names := list -}}
{{- range .Values.secretStores -}}
{{- if has .name $names }}{{ fail (printf "secretStores: two are called %q; give each a name of its own" .name) }}{{ end -}}
{{- $names = append $names .name -}}
{{- end -}}
{{- $default := .Values.defaultStore -}}
{{- if and $default (not (has $default $names)) -}}
{{- fail (printf "defaultStore: %q is none of secretStores (%s)" $default (default "there are none" (join ", " $names))) -}}
{{- end -}}
{{- if and (not $default) (gt (len $names) 1) -}}
{{- fail (printf "defaultStore: is empty and there are several secretStores; accepted: one of %s" (join ", " $names)) -}}
{{- end -}}
{{- $drain := 0 -}}
{{- range $unit, $seconds := dict "h" 3600 "m" 60 "s" 1 -}}
{{- $drain = add $drain (mul $seconds (regexFind (printf "[0-9]+%s" $unit) $.Values.drain.timeout | trimSuffix $unit | default "0" | int)) -}}
{{- end -}}
{{- if lt (int .Values.terminationGracePeriodSeconds) (int (add $drain 10)) -}}
{{- fail (printf "terminationGracePeriodSeconds: %d is too short for drain.timeout; accepted: %d or more" (int .Values.terminationGracePeriodSeconds) (int (add $drain 10))) -}}
{{- end -}}
{{- if and .Values.proxy.httpsProxy .Values.proxy.existingSecret -}}
{{- fail "proxy: httpsProxy stands beside existingSecret; give one of them" -}}
{{- end -}}
{{- end -}}
