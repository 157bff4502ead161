"""Who may speak with the pods of a run, and with whom they may. What a cluster's network enforces of it is its own.

A pod's containers share one network: the sandbox beside a stage has none at all by its own confinement.
"""

from urllib.parse import urlsplit

from score_distill.executors.kubernetes.models import PORT
from score_distill.executors.kubernetes.names import ROLE, UID, Body, Owner
from score_distill.executors.kubernetes.settings import Settings
from score_distill.executors.kubernetes.steps import PORT as PROGRESS

ANYWHERE: list[Body] = [
    {"ipBlock": {"cidr": "0.0.0.0/0", "except": ["169.254.0.0/16"]}},
    {"ipBlock": {"cidr": "::/0", "except": ["fe80::/10", "fd00:ec2::254/128", "fd20:ce::254/128"]}},
]
"""But not the addresses at which clouds give a node's keys away: link-local ones, and IPv6 ones of AWS and Google."""
DNS: Body = {"ports": [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}]}


def objects(owner: Owner, settings: Settings) -> list[Body]:
    """One policy for the stages and one for the models; none where the operator was told to make none."""
    if settings.egress is None:
        return []
    stages, models = _pods(owner, "stage"), _pods(owner, "teacher", "student")
    out: list[Body] = [DNS, *settings.egress]
    to_stages = [{"from": [stages]}, {"ports": [{"port": PROGRESS, "protocol": "TCP"}]}]
    to_models = [{"from": [stages, *settings.scrapers], "ports": [{"port": PORT, "protocol": "TCP"}]}]
    from_stages = [
        {"to": [stages]},
        {"to": [models], "ports": [{"port": PORT, "protocol": "TCP"}]},
        *out,
        *_endpoint(owner),
    ]
    return [
        _policy(owner, "stages", stages, to_stages, from_stages),
        _policy(owner, "models", models, to_models, out),
    ]


def _pods(owner: Owner, *roles: str) -> Body:
    asked = [{"key": ROLE, "operator": "In", "values": list(roles)}]
    return {"podSelector": {"matchLabels": {UID: owner.uid}, "matchExpressions": asked}}


def _endpoint(owner: Owner) -> list[Body]:
    """The way to a teacher of the user's, of which only the port is known."""
    endpoint = owner.run.spec.teacher.endpoint
    if endpoint is None:
        return []
    url = urlsplit(endpoint.url)
    port = url.port or {"http": 80}.get(url.scheme, 443)
    return [{"to": ANYWHERE, "ports": [{"port": port, "protocol": "TCP"}]}]


def _policy(owner: Owner, name: str, pods: Body, ingress: list[Body], egress: list[Body]) -> Body:
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": owner.metadata(f"{owner.name}-{name}", owner.labels("network")),
        "spec": {**pods, "policyTypes": ["Ingress", "Egress"], "ingress": ingress, "egress": egress},
    }
