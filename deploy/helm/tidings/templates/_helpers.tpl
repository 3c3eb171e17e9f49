{{- define "tidings.name" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 52 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "tidings.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "tidings.labels" -}}
{{ include "tidings.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | quote }}
{{- end -}}

{{- define "tidings.engine" -}}
{{- $engine := dig "cluster" "engine" "none" .Values.config -}}
{{- if ne $engine "none" -}}{{ $engine }}{{- end -}}
{{- end -}}

{{- define "tidings.secret" -}}
{{- if .Values.existingSecret -}}{{ .Values.existingSecret }}{{- else if .Values.secret -}}{{ include "tidings.name" . }}{{- end -}}
{{- end -}}

{{/* Seconds of a duration such as 5s or 2m. */}}
{{- define "tidings.seconds" -}}
{{- $text := toString . -}}
{{- if hasSuffix "ms" $text -}}1
{{- else if hasSuffix "m" $text -}}{{ mul (trimSuffix "m" $text | int) 60 }}
{{- else -}}{{ trimSuffix "s" $text | int }}
{{- end -}}
{{- end -}}

{{- define "tidings.pod" -}}
metadata:
  annotations:
    checksum/config: {{ include (print $.Template.BasePath "/configmap.yaml") . | sha256sum }}
    {{- with .Values.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  labels:
    {{- include "tidings.labels" . | nindent 4 }}
    {{- with .Values.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  {{- with .Values.imagePullSecrets }}
  imagePullSecrets: {{- toYaml . | nindent 4 }}
  {{- end }}
  automountServiceAccountToken: false
  # More than server.drain, which begins at SIGTERM and has server.drain_delay in it: no preStop hook is needed for it.
  terminationGracePeriodSeconds: {{ add (include "tidings.seconds" (dig "server" "drain" "10s" .Values.config) | int) 10 }}
  securityContext:
    runAsNonRoot: true
    runAsUser: 65532
    runAsGroup: 65532
    fsGroup: 65532
    fsGroupChangePolicy: OnRootMismatch
    seccompProfile: { type: RuntimeDefault }
  containers:
    - name: tidings
      image: "{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}"
      imagePullPolicy: {{ .Values.image.pullPolicy }}
      args: [serve, --config, /etc/tidings/tidings.toml]
      {{- with include "tidings.secret" . }}
      envFrom:
        - secretRef: { name: {{ . }} }
      {{- end }}
      env:
        - name: TIDINGS_SERVER__NODE
          valueFrom: { fieldRef: { fieldPath: metadata.name } }
        {{- if include "tidings.engine" . }}
        - name: TIDINGS_CLUSTER__NODE
          valueFrom: { fieldRef: { fieldPath: metadata.name } }
        {{- end }}
        {{- with .Values.env }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      ports:
        - { name: public, containerPort: 8000 }
        - { name: internal, containerPort: 50051 }
      startupProbe:
        httpGet: { path: /readyz, port: public }
        periodSeconds: 1
        failureThreshold: 60
      readinessProbe:
        httpGet: { path: /readyz, port: public }
        periodSeconds: 2
        failureThreshold: 1
      livenessProbe:
        httpGet: { path: /healthz, port: public }
        periodSeconds: 10
        timeoutSeconds: 5
        failureThreshold: 6
      securityContext:
        allowPrivilegeEscalation: false
        readOnlyRootFilesystem: true
        capabilities: { drop: [ALL] }
      resources: {{- toYaml .Values.resources | nindent 8 }}
      volumeMounts:
        - { name: config, mountPath: /etc/tidings, readOnly: true }
        - { name: data, mountPath: /data }
  volumes:
    - name: config
      configMap: { name: {{ include "tidings.name" . }} }
    {{- if or (include "tidings.engine" .) (not .Values.persistence.enabled) }}
    - name: data
      emptyDir: {}
    {{- else if .Values.persistence.existingClaim }}
    - name: data
      persistentVolumeClaim: { claimName: {{ .Values.persistence.existingClaim }} }
    {{- end }}
  {{- with .Values.nodeSelector }}
  nodeSelector: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.tolerations }}
  tolerations: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.affinity }}
  affinity: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.topologySpreadConstraints }}
  topologySpreadConstraints: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
{{- end -}}
