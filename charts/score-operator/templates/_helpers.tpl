{{- define "score-operator.name" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" (.Release.Name | trunc 37 | trimSuffix "-") .Chart.Name -}}
{{- end -}}
{{- end -}}

{{- define "score-operator.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end -}}

{{- define "score-operator.labels" -}}
{{ include "score-operator.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: score-distill
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- /* The full name of an image: (list $ .Values.images.worker). A repository that names its host keeps it. */ -}}
{{- define "score-operator.image" -}}
{{- $root := index . 0 -}}
{{- $image := index . 1 -}}
{{- if not (regexMatch "^[^/]*[.:][^/]*/" $image.repository) -}}
{{- with $root.Values.images.registry }}{{ trimSuffix "/" . }}/{{ end -}}
{{- end -}}
{{- $image.repository -}}
{{- if $image.digest }}@{{ $image.digest }}{{ else }}:{{ $image.tag | default $root.Chart.AppVersion }}{{ end -}}
{{- end -}}

{{- /* What the operator asks of the API server, and not a verb more. */ -}}
{{- define "score-operator.rules" -}}
# A run that has ended is deleted when spec.ttlSecondsAfterFinished or spec.ttlSecondsAfterFailed is over.
- apiGroups: [distill.score.dev]
  resources: [distillationruns]
  verbs: [delete, list, watch]
- apiGroups: [distill.score.dev]
  resources: [distillationruns/status]
  verbs: [patch]
# Children say blockOwnerDeletion, which clusters with OwnerReferencesPermissionEnforcement (OpenShift) allow only to
# those who may set the owner's finalizers. Nobody sets any.
- apiGroups: [distill.score.dev]
  resources: [distillationruns/finalizers]
  verbs: [update]
- apiGroups: [batch]
  resources: [jobs]
  verbs: [create, delete, get, list, patch, watch]
- apiGroups: [apps]
  resources: [deployments]
  verbs: [create, delete, get, list, patch, watch]
# Between a Deployment of a run and its pods.
- apiGroups: [apps]
  resources: [replicasets]
  verbs: [list, watch]
# Server-side apply is a patch, and a create where there was nothing.
- apiGroups: [""]
  resources: [configmaps]
  verbs: [create, delete, get, patch]
- apiGroups: [""]
  resources: [services]
  verbs: [create, delete, get, list, patch, watch]
- apiGroups: [networking.k8s.io]
  resources: [networkpolicies]
  verbs: [create, get, list, patch, watch]
- apiGroups: [""]
  resources: [pods]
  verbs: [list, watch]
# Events, claims, quotas and ranges are read only when something of a run waits, to say why.
- apiGroups: [""]
  resources: [events]
  verbs: [create, list]
- apiGroups: [""]
  resources: [persistentvolumeclaims]
  verbs: [get]
- apiGroups: [""]
  resources: [limitranges, resourcequotas]
  verbs: [list]
# Keys of model servers are made once and never read.
- apiGroups: [""]
  resources: [secrets]
  verbs: [create]
{{- end -}}
