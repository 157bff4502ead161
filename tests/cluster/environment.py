"""The project's virtual environment and sources inside pods, instead of worker images of many gigabytes.

A claim of the test cluster holds the checkout read-only, and an admission policy of the test cluster puts it into
pods by a label, so that what makes the pods knows nothing of it. That suits the ``restricted`` level too, by which
a pod must not name a folder of its host.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from kubernetes import client, utils
from tests.cluster.waiting import eventually

LABEL = "distill.score.dev/role"
CHECKOUT = Path(__file__).resolve().parents[2]
INSIDE = "/opt/score-distill"
PYTHONPATH = f"{INSIDE}/.venv/lib/python3.11/site-packages:{INSIDE}/src"
"""For the image's own Python: the environment's interpreter stays behind."""
_CLAIM = "environment"


def mount(
    api: client.ApiClient, namespace: str, values: Sequence[str], *, label: str = LABEL, checkout: Path = CHECKOUT
) -> None:
    """Let all new pods of ``namespace`` whose ``label`` has one of ``values`` import what the checkout's .venv has."""
    if sys.version_info[:2] != (3, 11):
        raise RuntimeError("pods run Python 3.11, as Debian bookworm has it: make .venv with that version")
    checkout.chmod(checkout.stat().st_mode | 0o055)  # pods are another user; a clone in a folder of mktemp is for one
    for one in _objects(namespace, values, label, checkout):
        utils.create_from_dict(api, one)
    eventually(lambda: _is_in_force(client.CoreV1Api(api), namespace, {label: values[0]}))


def _is_in_force(core: client.CoreV1Api, namespace: str, labels: dict[str, str]) -> None:
    """An API server heeds a policy only some time after it was made."""
    security = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    pod = {
        "metadata": {"generateName": "probe-", "labels": labels},
        "spec": {
            "securityContext": {"runAsNonRoot": True, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{"name": "probe", "image": "registry.invalid/none:1", "securityContext": security}],
        },
    }
    admitted = core.create_namespaced_pod(namespace, pod, dry_run="All")
    assert _CLAIM in [volume.name for volume in admitted.spec.volumes or []], "the policy is not in force"


def _objects(namespace: str, values: Sequence[str], label: str, checkout: Path) -> list[dict[str, object]]:
    name = f"environment-{namespace}"
    volume = {"capacity": {"storage": "10Gi"}, "accessModes": ["ReadOnlyMany"], "storageClassName": ""}
    claim = {**volume, "volumeName": name, "resources": {"requests": volume["capacity"]}}
    del claim["capacity"]
    policy = {"apiVersion": "admissionregistration.k8s.io/v1", "metadata": {"name": name}}
    return [
        {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": name},
            "spec": {
                **volume,
                "hostPath": {"path": str(checkout), "type": "Directory"},
                "claimRef": {"namespace": namespace, "name": _CLAIM},
            },
        },
        {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": _CLAIM, "namespace": namespace},
            "spec": claim,
        },
        {
            **policy,
            "kind": "MutatingAdmissionPolicy",
            "spec": {
                "failurePolicy": "Fail",
                "reinvocationPolicy": "IfNeeded",
                "matchConstraints": {
                    "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
                    "objectSelector": {"matchExpressions": [{"key": label, "operator": "In", "values": list(values)}]},
                    "resourceRules": [
                        {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}
                    ],
                },
                "mutations": [{"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": _expression()}}],
            },
        },
        {**policy, "kind": "MutatingAdmissionPolicyBinding", "spec": {"policyName": name}},
    ]


def _expression() -> str:
    claim = f'Object.spec.volumes.persistentVolumeClaim{{claimName: "{_CLAIM}", readOnly: true}}'
    volume = f'Object.spec.volumes{{name: "{_CLAIM}", persistentVolumeClaim: {claim}}}'
    containers, first = _each("containers"), _each("initContainers")
    return (
        f"has(object.spec.initContainers)"
        f" ? Object{{spec: Object.spec{{volumes: [{volume}], containers: {containers}, initContainers: {first}}}}}"
        f" : Object{{spec: Object.spec{{volumes: [{volume}], containers: {containers}}}}}"
    )


def _each(kind: str) -> str:
    one = f"Object.spec.{kind}"
    return (
        f"object.spec.{kind}.map(c, {one}{{name: c.name, "
        f'env: [{one}.env{{name: "PYTHONPATH", value: "{PYTHONPATH}"}}], '
        f'volumeMounts: [{one}.volumeMounts{{name: "{_CLAIM}", mountPath: "{INSIDE}", readOnly: true}}]}})'
    )
