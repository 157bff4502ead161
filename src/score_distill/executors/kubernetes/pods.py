"""What all pods of a run share: no rights, no token, a read-only root, and the words of spec.scheduling."""

from collections.abc import Mapping, Sequence
from urllib.parse import urlsplit

from score_distill.api import Amounts, Pod, Spec
from score_distill.executors.kubernetes.names import Body

USER = 65532
GRACE_SECONDS = 60
CLAIMS = "/claims"
SECURITY: Body = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}


def container(
    name: str,
    image: str,
    pull_policy: str,
    command: Sequence[str],
    environ: Mapping[str, str | Body],
    mounts: Mapping[str, str],
    **more: object,
) -> Body:
    """A container at the restricted Pod Security level, whose last words Kubernetes keeps when it fails.

    A mount whose path ends in ``:ro`` is read-only.
    """
    return {
        "name": name,
        "image": image,
        "imagePullPolicy": pull_policy,
        "command": list(command),
        "env": [
            {"name": key, "value": value} if isinstance(value, str) else {"name": key, "valueFrom": value}
            for key, value in environ.items()
        ],
        "volumeMounts": [
            {"name": volume, "mountPath": path.removesuffix(":ro"), "readOnly": path.endswith(":ro")}
            for volume, path in mounts.items()
        ],
        "securityContext": SECURITY,
        "terminationMessagePolicy": "FallbackToLogsOnError",
        **more,
    }


def pod(spec: Spec, labels: Mapping[str, str], *, volumes: Mapping[str, Body], **more: object) -> Body:
    """A pod template; volumes by name."""
    scheduling = spec.scheduling
    placed: Body = {
        "priorityClassName": scheduling.priority_class_name,
        "runtimeClassName": scheduling.runtime_class_name,
        "nodeSelector": dict(scheduling.node_selector),
        "tolerations": [
            one.model_dump(mode="json", by_alias=True, exclude_none=True) for one in scheduling.tolerations
        ],
        "imagePullSecrets": [{"name": name} for name in spec.images.pull_secrets],
    }
    return {
        "metadata": {"labels": dict(labels)},
        "spec": {
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "terminationGracePeriodSeconds": GRACE_SECONDS,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": USER,
                "runAsGroup": USER,
                "fsGroup": USER,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "volumes": [{"name": name, **source} for name, source in volumes.items()],
            **{key: value for key, value in placed.items() if value},
            **more,
        },
    }


def grouped(template: Body, group: Body) -> Body:
    """A pod template with the labels and annotations of a group."""
    metadata = template["metadata"]
    more = {kind: metadata.get(kind, {}) | named for kind, named in group.items()}
    return template | {"metadata": metadata | more}


def resources(pod: Pod) -> Body:
    """Requests and limits; GPUs are a limit, which Kubernetes takes for the request too."""
    gpus = {pod.gpu_resource: str(pod.gpus)} if pod.gpus else {}
    found = {"requests": _amounts(pod.requests), "limits": _amounts(pod.limits) | gpus}
    return {kind: amounts for kind, amounts in found.items() if amounts}


def _amounts(amounts: Amounts) -> dict[str, str]:
    named = {"cpu": amounts.cpu, "memory": amounts.memory, "ephemeral-storage": amounts.ephemeral_storage}
    return {name: str(value) for name, value in named.items() if value is not None}


def empty(size: str | None = None, *, memory: bool = False) -> Body:
    return {"emptyDir": ({"medium": "Memory"} if memory else {}) | ({"sizeLimit": size} if size else {})}


def secret(name: str, items: Mapping[str, str]) -> Body:
    """Keys of a Secret as files that the pods' group may read."""
    listed = [{"key": key, "path": path} for key, path in items.items()]
    return {"secret": {"secretName": name, "items": listed, "defaultMode": 0o440}}


def claims(spec: Spec) -> list[str]:
    """The PersistentVolumeClaims that the URIs of models, tasks and corpus name."""
    corpus = spec.search.corpus if spec.search else None
    uris = (spec.student.model, spec.teacher.model, spec.tasks.train.uri, *(one.uri for one in spec.tasks.eval), corpus)
    return sorted({urlsplit(uri).netloc for uri in uris if uri and uri.startswith("pvc://")})


def claim_volumes(spec: Spec) -> dict[str, Body]:
    named = {f"claim-{n}": name for n, name in enumerate(claims(spec))}
    return {volume: {"persistentVolumeClaim": {"claimName": name, "readOnly": True}} for volume, name in named.items()}


def claim_mounts(spec: Spec) -> dict[str, str]:
    return {f"claim-{n}": f"{CLAIMS}/{name}:ro" for n, name in enumerate(claims(spec))}


def store_access(spec: Spec) -> Body:
    """The keys of the artifact store as environment, where the manifest names a Secret."""
    name = spec.artifacts.credentials_secret
    return {"envFrom": [{"secretRef": {"name": name}}]} if name else {}
