{{/* Names and labels. Those of one service take (dict "root" $ "service" "iterate"). */}}

{{- define "lakehouse.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 52 | trimSuffix "-" -}}
{{- else if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 52 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "lakehouse.name" -}}
{{ include "lakehouse.fullname" .root }}-{{ .service }}
{{- end -}}

{{/* The name under which a service's pods are found, all of them: the service is headless. */}}
{{- define "lakehouse.host" -}}
{{ include "lakehouse.name" . }}.{{ .root.Release.Namespace }}.svc.{{ .root.Values.clusterDomain }}
{{- end -}}

{{- define "lakehouse.selector" -}}
app.kubernetes.io/name: {{ .root.Chart.Name }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .service }}
{{- end -}}

{{- define "lakehouse.labels" -}}
{{ include "lakehouse.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ .root.Chart.Name }}-{{ .root.Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "lakehouse.image" -}}
{{- with .Values.image -}}
{{ .repository }}{{ if .digest }}@{{ .digest }}{{ else }}:{{ .tag | default $.Chart.AppVersion }}{{ end }}
{{- end -}}
{{- end -}}

{{- define "lakehouse.graceSeconds" -}}
{{- $least := add (div (mul 11 (int .Values.connectionAgeMs)) 10) 5000 -}}
{{- if lt (int .Values.drain.delayMs) (int $least) -}}
{{- fail (printf "drain.delayMs, %d, is below 1.1 connectionAgeMs and 5000, %d: clients would stay connected to a pod that refuses them; raise it, or lower connectionAgeMs" (int .Values.drain.delayMs) $least) -}}
{{- end -}}
{{- with .Values.drain -}}
{{ div (add .preStopMs .delayMs .runMs .endMs 999) 1000 }}
{{- end -}}
{{- end -}}
