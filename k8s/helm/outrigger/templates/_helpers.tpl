{{- /* Names, labels and values that several templates share. */ -}}

{{- /* The start of all names. A Service has 63 characters at most, and "-webhook" follows. */ -}}
{{- define "outrigger.fullname" -}}
{{- $byRelease := ternary .Release.Name (printf "%s-outrigger" .Release.Name) (contains "outrigger" .Release.Name) -}}
{{- default $byRelease .Values.fullnameOverride | trunc 55 | trimSuffix "-" -}}
{{- end -}}

{{- define "outrigger.webhook" -}}{{ include "outrigger.fullname" . }}-webhook{{- end -}}
{{- define "outrigger.certificate" -}}{{ include "outrigger.webhook" . }}-certificate{{- end -}}

{{- define "outrigger.serviceAccount" -}}
{{- default (include "outrigger.webhook" .) .Values.serviceAccount.name -}}
{{- end -}}

{{- /* What selects the webhook's pods. The name is the release's own, so that two releases fit into one namespace. */ -}}
{{- define "outrigger.selector" -}}
app.kubernetes.io/name: {{ include "outrigger.webhook" . }}
{{- end -}}

{{- define "outrigger.releaseLabels" -}}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "outrigger.labels" -}}
{{ include "outrigger.selector" . }}
app.kubernetes.io/part-of: outrigger
{{ include "outrigger.releaseLabels" . }}
{{- end -}}

{{- define "outrigger.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}{{ .repository }}@{{ .digest }}{{- else -}}{{ .repository }}:{{ default $.Chart.AppVersion .tag }}{{- end -}}
{{- end -}}
{{- end -}}

{{- define "outrigger.otlpEndpoint" -}}
{{- if .Values.injection.otlpEndpoint -}}{{ .Values.injection.otlpEndpoint }}
{{- else if .Values.observability.enabled -}}http://otel-collector.{{ .Values.observability.namespace }}:4318
{{- end -}}
{{- end -}}

{{- /* Stops with what to do when values contradict each other; values.schema.json judges each value alone. */ -}}
{{- define "outrigger.check" -}}
{{- with .Values.certificate -}}
{{- if and .secretName (not .ca) (not .configurationAnnotations) -}}
{{- fail "\n\ncertificate.secretName brings a certificate that the API server does not trust yet.\nSet certificate.ca to the authority that signed it (--set-file certificate.ca=ca.crt), or let a controller fill it in:\ncertificate.configurationAnnotations with cert-manager.io/inject-ca-from: NAMESPACE/CERTIFICATE.\n" -}}
{{- end -}}
{{- if and (not .secretName) (or .ca .configurationAnnotations) -}}
{{- fail "\n\ncertificate.ca and certificate.configurationAnnotations go with certificate.secretName: without it the webhook makes its\nown certificate and writes its authority itself. Set certificate.secretName, or remove the others.\n" -}}
{{- end -}}
{{- if and .secretName .lifetime -}}
{{- fail "\n\ncertificate.lifetime is for the webhook's own certificate; the issuer of certificate.secretName decides about that one.\nRemove certificate.lifetime, or certificate.secretName.\n" -}}
{{- end -}}
{{- end -}}
{{- if and (not .Values.serviceAccount.create) (not .Values.serviceAccount.name) -}}
{{- fail "\n\nserviceAccount.create=false needs serviceAccount.name: the account that exists already.\n" -}}
{{- end -}}
{{- if and .Values.observability.enabled (eq .Values.observability.namespace .Release.Namespace) -}}
{{- fail (printf "\n\nobservability.namespace is the release's own namespace, %s. Its network policies are made for a namespace of its own:\nchoose another one.\n" .Release.Namespace) -}}
{{- end -}}
{{- end -}}
