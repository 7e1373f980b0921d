{{/* The pods of a service: what the three have in common. They take (dict "root" $ "service" "iterate"). */}}

{{- define "lakehouse.podMetadata" -}}
labels:
  {{- include "lakehouse.labels" . | nindent 2 }}
annotations:
  # Another configuration is another pod.
  checksum/config: {{ .root.Values.config | sha256sum }}
  {{- with (index .root.Values .service).podAnnotations }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end -}}

{{- define "lakehouse.podSpec" -}}
{{- $values := index .root.Values .service -}}
serviceAccountName: {{ include "lakehouse.fullname" .root }}
automountServiceAccountToken: false
# Its variables look like settings of ours.
enableServiceLinks: false
terminationGracePeriodSeconds: {{ include "lakehouse.graceSeconds" .root }}
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile: {type: RuntimeDefault}
{{- with .root.Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
topologySpreadConstraints:
  - maxSkew: 1
    topologyKey: kubernetes.io/hostname
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- include "lakehouse.selector" . | nindent 8 }}
{{- with $values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* The service's container. */}}
{{- define "lakehouse.container" -}}
{{- $values := index .root.Values .service -}}
{{- $drain := .root.Values.drain -}}
name: {{ .service }}
image: {{ include "lakehouse.image" .root }}
imagePullPolicy: {{ .root.Values.image.pullPolicy }}
args: [{{ .service }}]
{{ include "lakehouse.confined" . }}
ports:
  - {name: grpc, containerPort: 50051}
  {{- if .root.Values.metrics.port }}
  - {name: metrics, containerPort: {{ .root.Values.metrics.port }}}
  {{- end }}
env:
  {{- include "lakehouse.environment" . | trim | nindent 2 }}
lifecycle:
  preStop:
    exec:
      command: [sleep, {{ divf $drain.preStopMs 1000 | toString | quote }}]
startupProbe:
  {{- include "lakehouse.probe" (merge (dict "arguments" (list "--liveness")) .) | nindent 2 }}
  periodSeconds: 2
  failureThreshold: 60
  timeoutSeconds: 5
livenessProbe:
  {{- include "lakehouse.probe" (merge (dict "arguments" (list "--liveness")) .) | nindent 2 }}
  periodSeconds: 20
  failureThreshold: 3
  timeoutSeconds: 5
readinessProbe:
  {{- include "lakehouse.probe" (merge (dict "arguments" list) .) | nindent 2 }}
  periodSeconds: {{ ternary 10 5 (ne .root.Values.tls.secretName "") }}
  failureThreshold: 2
  timeoutSeconds: 5
resources:
  {{- toYaml $values.resources | nindent 2 }}
{{- end -}}

{{/* By the kubelet; where TLS is on, which its probes by gRPC do not speak, by the image's own probe. */}}
{{- define "lakehouse.probe" -}}
{{- if .root.Values.tls.secretName -}}
exec:
  command: {{ concat (list "python" "-m" "lakehouse.server.health_probe" "127.0.0.1:50051") .arguments | toJson }}
{{- else -}}
grpc:
  port: 50051
  {{- if has "--liveness" .arguments }}
  service: liveness
  {{- end }}
{{- end -}}
{{- end -}}

{{- define "lakehouse.confined" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
{{- end -}}

{{/* What the chart sets goes over `config`; what the values set of `env`, over that. */}}
{{- define "lakehouse.environment" -}}
{{- $values := index .root.Values .service -}}
{{- $prefix := upper .service -}}
{{- $set := dict
  (printf "%s_BIND" $prefix) "0.0.0.0:50051"
  (printf "%s_CONNECTION_AGE_MS" $prefix) (.root.Values.connectionAgeMs | int | toString)
  (printf "%s_DRAIN_DELAY_MS" $prefix) (.root.Values.drain.delayMs | int | toString)
  (printf "%s_DRAIN_MS" $prefix) (.root.Values.drain.runMs | int | toString)
-}}
{{- if .root.Values.metrics.port -}}
{{- $_ := set $set (printf "%s_METRICS_HOST" $prefix) "0.0.0.0" -}}
{{- $_ := set $set (printf "%s_METRICS_PORT" $prefix) (.root.Values.metrics.port | int | toString) -}}
{{- end -}}
{{- if .root.Values.config -}}
{{- $_ := set $set "LAKEHOUSE_CONFIG" "/etc/lakehouse/config/lakehouse.toml" -}}
{{- end -}}
{{- with .root.Values.tls -}}
{{- if .secretName -}}
{{- $folder := "/etc/lakehouse/tls" -}}
{{- $_ := set $set (printf "%s_TLS__CERTIFICATE_FILE" $prefix) (printf "%s/tls.crt" $folder) -}}
{{- $_ := set $set (printf "%s_TLS__KEY_FILE" $prefix) (printf "%s/tls.key" $folder) -}}
{{- if .clientCertificates -}}
{{- $_ := set $set (printf "%s_TLS__CLIENT_CA_FILE" $prefix) (printf "%s/ca.crt" $folder) -}}
{{- end -}}
{{- if eq $.service "iterate" -}}
{{- $_ := set $set "ITERATE_HOP_TLS__CA_FILE" (printf "%s/ca.crt" $folder) -}}
{{- $_ := set $set "ITERATE_HOP_TLS__CERTIFICATE_FILE" (printf "%s/tls.crt" $folder) -}}
{{- $_ := set $set "ITERATE_HOP_TLS__KEY_FILE" (printf "%s/tls.key" $folder) -}}
{{- end -}}
{{- $_ := set $set "LAKEHOUSE_CA" (printf "%s/ca.crt" $folder) -}}
{{- $_ := set $set "LAKEHOUSE_CERT" (printf "%s/tls.crt" $folder) -}}
{{- $_ := set $set "LAKEHOUSE_KEY" (printf "%s/tls.key" $folder) -}}
{{- $_ := set $set "LAKEHOUSE_SERVER_NAME" (include "lakehouse.host" $) -}}
{{- end -}}
{{- end -}}
{{- $own := .own | default dict -}}
{{- range $name, $value := merge (deepCopy $values.env) $own $set }}
- {name: {{ $name }}, value: {{ $value | quote }}}
{{- end }}
{{- include "lakehouse.secretVariables" $values.secretFiles }}
{{- end -}}

{{- define "lakehouse.secretVariables" -}}
{{- range . }}
- {name: {{ .env }}, value: {{ printf "/etc/lakehouse/secrets/%s/%s" .secret .key | quote }}}
{{- end }}
{{- end -}}

{{/* What every container of ours mounts. */}}
{{- define "lakehouse.mounts" -}}
- {name: tmp, mountPath: /tmp}
{{- if .root.Values.config }}
- {name: config, mountPath: /etc/lakehouse/config, readOnly: true}
{{- end }}
{{- if .root.Values.tls.secretName }}
- {name: tls, mountPath: /etc/lakehouse/tls, readOnly: true}
{{- end }}
{{- if .secretFiles }}
- {name: secrets, mountPath: /etc/lakehouse/secrets, readOnly: true}
{{- end }}
{{- end -}}

{{- define "lakehouse.volumes" -}}
- {name: tmp, emptyDir: {sizeLimit: 1Gi}}
{{- if .root.Values.config }}
- name: config
  configMap: {name: {{ include "lakehouse.fullname" .root }}}
{{- end }}
{{- with .root.Values.tls.secretName }}
- name: tls
  secret: {secretName: {{ . }}, defaultMode: 0440}
{{- end }}
{{- with .secretFiles }}
# Not by subPath, which would never see a new secret.
- name: secrets
  projected:
    defaultMode: 0440
    sources:
      {{- $sources := dict }}
      {{- range . }}
      {{- $path := printf "%s/%s" .secret .key }}
      {{- $_ := set $sources $path (dict "secret" (dict "name" .secret "items" (list (dict "key" .key "path" $path)))) }}
      {{- end }}
      {{- values $sources | toYaml | nindent 6 }}
{{- end }}
{{- end -}}
