"""What a cluster's network does with NetworkPolicies, as far as ours need it: the node's own here enforces none.

It knows pod selectors of the policy's namespace, IPv4 blocks, and ports by number.
"""

import subprocess
from collections.abc import Iterable, Iterator

from kubernetes import client
from tests.cluster.network import FIRST

Pod, Policy = client.V1Pod, client.V1NetworkPolicy


def enforce(api: client.ApiClient) -> None:
    """Let through what the policies and pods of this moment allow, and nothing else that is new."""
    policies = client.NetworkingV1Api(api).list_network_policy_for_all_namespaces().items
    pods = [pod for pod in client.CoreV1Api(api).list_pod_for_all_namespaces().items if pod.status.pod_ip]
    _load("\n".join(_table(policies, pods)))


def relax() -> None:
    """Let everything through again."""
    _load("table ip policies {}\ndelete table ip policies")


def _load(script: str) -> None:
    done = subprocess.run([*FIRST.inside, "nft", "-f", "-"], input=script, text=True, capture_output=True)
    assert done.returncode == 0, f"{done.stderr}\n{script}"


def _table(policies: Iterable[Policy], pods: list[Pod]) -> Iterator[str]:
    chains, jumps = list[str](), list[str]()
    for number, pod in enumerate(pods):
        for way, side in (("Ingress", "daddr"), ("Egress", "saddr")):
            mine = [one for one in policies if way in one.spec.policy_types and _selects(one, pod)]
            if mine:
                name = f"{way.lower()}_{number}"
                jumps.append(f"ip {side} {pod.status.pod_ip} jump {name}")
                chains += [f"chain {name} {{", *(f"{one} return" for one in _allowed(mine, way, pods)), "drop", "}"]
    yield from ["table ip policies {}", "delete table ip policies", "table ip policies {", *chains]
    yield "chain forward { type filter hook forward priority 0; ct state established,related accept"
    yield from [*jumps, "}", "}"]


def _selects(policy: Policy, pod: Pod) -> bool:
    return pod.metadata.namespace == policy.metadata.namespace and _matches(policy.spec.pod_selector, pod)


def _matches(selector: client.V1LabelSelector, pod: Pod) -> bool:
    labels = pod.metadata.labels or {}
    named = all(labels.get(key) == value for key, value in (selector.match_labels or {}).items())
    return named and all(labels.get(one.key) in one.values for one in selector.match_expressions or ())


def _allowed(policies: Iterable[Policy], way: str, pods: list[Pod]) -> Iterator[str]:
    side = "saddr" if way == "Ingress" else "daddr"
    for policy in policies:
        for rule in getattr(policy.spec, way.lower()) or ():
            peers = (rule._from if way == "Ingress" else rule.to) or [None]
            ports = [f"{(port.protocol or 'TCP').lower()} dport {port.port}" for port in rule.ports or ()] or [""]
            for peer in peers:
                for address in _addresses(peer, policy.metadata.namespace, side, pods):
                    yield from (f"{address} {port}" for port in ports)


def _addresses(peer: client.V1NetworkPolicyPeer | None, namespace: str, side: str, pods: list[Pod]) -> Iterator[str]:
    if peer is None:
        yield ""
    elif peer.ip_block is not None:
        if ":" not in peer.ip_block.cidr:
            but = "".join(f" ip {side} != {one}" for one in peer.ip_block._except or ())
            yield f"ip {side} {peer.ip_block.cidr}{but}"
    else:
        for pod in pods:
            if pod.metadata.namespace == namespace and _matches(peer.pod_selector, pod):
                yield f"ip {side} {pod.status.pod_ip}"
