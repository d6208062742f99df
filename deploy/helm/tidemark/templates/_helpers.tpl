{{- define "tidemark.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "tidemark.selectorLabels" -}}
app.kubernetes.io/name: {{ default .Chart.Name .Values.nameOverride }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "tidemark.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{ include "tidemark.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/part-of: {{ .Values.pipeline.name }}
{{- end -}}

{{- define "tidemark.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "tidemark.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "tidemark.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{ .repository }}@{{ .digest }}
{{- else -}}
{{ .repository }}:{{ default $.Chart.AppVersion .tag }}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* The pipeline file: the given one with the chart's own supervisor.http. */}}
{{- define "tidemark.pipelineFile" -}}
{{- $tokens := list
  (dict "name" "operator" "role" "operator" "token" "${TIDEMARK_OPERATOR_TOKEN}")
  (dict "name" "viewer" "role" "viewer" "token" "${TIDEMARK_VIEWER_TOKEN}") -}}
{{- $http := dict "host" "0.0.0.0" "port" 8080 "tokens" $tokens -}}
{{- toYaml (merge (dict "supervisor" (dict "http" $http)) (deepCopy .Values.pipeline)) -}}
{{- end -}}

{{- define "tidemark.env" -}}
- name: POD_NAME
  valueFrom: {fieldRef: {fieldPath: metadata.name}}
- name: TIDEMARK_LOG
  value: {{ .Values.logLevel }}
{{- with .Values.secrets }}
- name: TIDEMARK_OPERATOR_TOKEN
  valueFrom: {secretKeyRef: {name: {{ .http.name }}, key: {{ .http.operatorKey }}}}
- name: TIDEMARK_VIEWER_TOKEN
  valueFrom: {secretKeyRef: {name: {{ .http.name }}, key: {{ .http.viewerKey }}}}
{{- if .redis.name }}
- name: REDIS_URL
  valueFrom: {secretKeyRef: {name: {{ .redis.name }}, key: {{ .redis.key }}}}
{{- end }}
{{- if .s3.name }}
- name: AWS_ACCESS_KEY_ID
  valueFrom: {secretKeyRef: {name: {{ .s3.name }}, key: {{ .s3.accessKeyIdKey }}}}
- name: AWS_SECRET_ACCESS_KEY
  valueFrom: {secretKeyRef: {name: {{ .s3.name }}, key: {{ .s3.secretAccessKeyKey }}}}
{{- end }}
{{- end }}
{{- end -}}

{{/* A role's Deployment. Takes {root, role, replicas}: replicas is nil where an autoscaler decides. */}}
{{- define "tidemark.deployment" -}}
{{- $root := .root -}}
{{- $role := .role -}}
{{- $own := index $root.Values $role -}}
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ include "tidemark.fullname" $root }}-{{ $role }}
  labels:
    {{- include "tidemark.labels" $root | nindent 4 }}
    app.kubernetes.io/component: {{ $role }}
spec:
  {{- if ne .replicas nil }}
  replicas: {{ .replicas }}
  {{- end }}
  # One at a time: each hand-over moves units.
  strategy:
    type: RollingUpdate
    rollingUpdate: {maxSurge: 1, maxUnavailable: {{ eq $role "supervisor" | ternary 0 1 }}}
  minReadySeconds: 5
  selector:
    matchLabels:
      {{- include "tidemark.selectorLabels" $root | nindent 6 }}
      app.kubernetes.io/component: {{ $role }}
  template:
    metadata:
      labels:
        {{- include "tidemark.labels" $root | nindent 8 }}
        app.kubernetes.io/component: {{ $role }}
        {{- with $root.Values.podLabels }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      annotations:
        # The file is read at start: a change makes new pods.
        checksum/pipeline: {{ include "tidemark.pipelineFile" $root | sha256sum }}
        {{- with $root.Values.podAnnotations }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
    spec:
      serviceAccountName: {{ include "tidemark.serviceAccountName" $root }}
      automountServiceAccountToken: false
      enableServiceLinks: false
      {{- with $root.Values.image.pullSecrets }}
      imagePullSecrets:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with $own.priorityClassName }}
      priorityClassName: {{ . }}
      {{- end }}
      terminationGracePeriodSeconds: {{ add $root.Values.drainGraceSeconds 10 }}
      securityContext:
        runAsNonRoot: true
        runAsUser: 1000
        runAsGroup: 1000
        fsGroup: 1000
        seccompProfile: {type: RuntimeDefault}
      {{- with $own.nodeSelector }}
      nodeSelector:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with $own.tolerations }}
      tolerations:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with $own.affinity }}
      affinity:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      topologySpreadConstraints:
        - maxSkew: 1
          topologyKey: kubernetes.io/hostname
          whenUnsatisfiable: ScheduleAnyway
          labelSelector:
            matchLabels:
              {{- include "tidemark.selectorLabels" $root | nindent 14 }}
              app.kubernetes.io/component: {{ $role }}
      containers:
        - name: {{ $role }}
          image: {{ include "tidemark.image" $root | quote }}
          imagePullPolicy: {{ $root.Values.image.pullPolicy }}
          args:
            - {{ $role }}
            - -c
            - /etc/tidemark/pipeline.yaml
            - --id
            - $(POD_NAME)
            - --grace
            - {{ $root.Values.drainGraceSeconds }}s
          env:
            {{- include "tidemark.env" $root | nindent 12 }}
            - name: NODE_OPTIONS
              value: --max-old-space-size={{ $own.maxOldSpaceMiB }}
            {{- with $root.Values.env }}
            {{- toYaml . | nindent 12 }}
            {{- end }}
          {{- if eq $role "supervisor" }}
          ports:
            - {name: http, containerPort: 8080, protocol: TCP}
          # A service that is away at the start is waited for, for a minute.
          startupProbe:
            httpGet: {path: /livez, port: http}
            periodSeconds: 3
            timeoutSeconds: 5
            failureThreshold: 30
          livenessProbe:
            httpGet: {path: /livez, port: http}
            periodSeconds: 10
            timeoutSeconds: 10
            failureThreshold: 6
          readinessProbe:
            httpGet: {path: /readyz, port: http}
            periodSeconds: 5
            timeoutSeconds: 5
            failureThreshold: 3
          {{- else }}
          # A live member of the state store; an outage of the state store does not count.
          startupProbe:
            exec:
              command: &health
                - node
                - /app/deploy/container/healthcheck.ts
                - /etc/tidemark/pipeline.yaml
            periodSeconds: 10
            timeoutSeconds: 20
            failureThreshold: 12
          livenessProbe:
            exec:
              command: *health
            periodSeconds: 60
            timeoutSeconds: 20
            failureThreshold: 3
          {{- end }}
          resources:
            {{- toYaml $own.resources | nindent 12 }}
          securityContext:
            allowPrivilegeEscalation: false
            readOnlyRootFilesystem: true
            capabilities: {drop: [ALL]}
          volumeMounts:
            - {name: pipeline, mountPath: /etc/tidemark, readOnly: true}
            - {name: cache, mountPath: /var/cache/tidemark}
            - {name: tmp, mountPath: /tmp}
            {{- with $root.Values.extraVolumeMounts }}
            {{- toYaml . | nindent 12 }}
            {{- end }}
      volumes:
        - name: pipeline
          configMap: {name: {{ include "tidemark.fullname" $root }}-pipeline}
        - name: cache
          emptyDir: {sizeLimit: {{ $root.Values.scratch.cache }}}
        - name: tmp
          emptyDir: {sizeLimit: {{ $root.Values.scratch.tmp }}}
        {{- with $root.Values.extraVolumes }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
{{- end -}}
