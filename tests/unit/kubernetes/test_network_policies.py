"""Whom the pods of a run may reach, and who may reach them."""

from dataclasses import replace
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.unit.kubernetes.world import NOW, SETTINGS, UID, Body, run

from score_distill.executors.kubernetes.observe import Children
from score_distill.executors.kubernetes.reconcile import Measured, reconcile

ROOT = Path(__file__).parents[3]


def policies(**spec: Any) -> dict[str, Body]:
    settings = replace(SETTINGS, egress=({"to": [{"ipBlock": {"cidr": "10.9.0.1/32"}}]},))
    changes = reconcile(run(**spec), Children(), Measured(), settings, NOW)
    assert [body["kind"] for body in changes.apply[:2]] == ["NetworkPolicy", "NetworkPolicy"]
    return {body["metadata"]["name"]: body["spec"] for body in changes.apply[:2]}


def test_policies_come_before_pods_and_let_stages_reach_models_and_their_store() -> None:
    made = policies()
    stages, models = made["one-stages"], made["one-models"]
    of_models = models["podSelector"]
    assert of_models["matchLabels"] == {"distill.score.dev/run-uid": UID}
    assert of_models["matchExpressions"][0]["values"] == ["teacher", "student"]
    assert models["ingress"] == [
        {"from": [{"podSelector": stages["podSelector"]}], "ports": [{"port": 8000, "protocol": "TCP"}]}
    ]
    reached = [one.get("to") for one in stages["egress"]]
    assert reached == [
        [{"podSelector": stages["podSelector"]}],
        [{"podSelector": of_models}],
        None,
        [{"ipBlock": {"cidr": "10.9.0.1/32"}}],
    ]
    assert [one.get("to") for one in models["egress"]] == reached[2:]
    assert stages["egress"][2]["ports"] == [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}]


def test_who_may_scrape_reaches_the_models_too() -> None:
    prometheus = {"namespaceSelector": {"matchLabels": {"team": "monitoring"}}}
    settings = replace(SETTINGS, egress=(), scrapers=(prometheus,))
    [_, models] = reconcile(run(), Children(), Measured(), settings, NOW).apply[:2]
    assert models["spec"]["ingress"][0]["from"][1:] == [prometheus]


@pytest.mark.parametrize(
    ("url", "port"), [("https://api/v1", 443), ("http://api/v1", 80), ("http://api:8443/v1", 8443)]
)
def test_a_teacher_of_the_users_is_reached_by_its_port_and_no_nodes_keys_are(url: str, port: int) -> None:
    last = policies(teacher={"endpoint": {"url": url, "model": "m"}})["one-stages"]["egress"][-1]
    assert last["ports"] == [{"port": port, "protocol": "TCP"}]
    assert last["to"][0]["ipBlock"]["except"] == ["169.254.0.0/16"]


METADATA = ["169.254.169.254", "169.254.170.2", "169.254.170.23", "fd00:ec2::254", "fd20:ce::254", "fe80::a9fe:a9fe"]


def allowed(peers: list[Body], address: str) -> bool:
    """Whether a network that enforces these peers lets a pod reach an address."""
    target = ip_address(address)
    blocks = [one["ipBlock"] for one in peers]
    return any(
        target in ip_network(one["cidr"]) and not any(target in ip_network(cut) for cut in one["except"])
        for one in blocks
    )


@pytest.mark.parametrize("address", METADATA)
def test_no_default_lets_a_pod_reach_where_clouds_give_keys_away(address: str) -> None:
    values = yaml.safe_load((ROOT / "charts/score-operator/values.yaml").read_text())
    [by_default] = values["networkPolicy"]["runs"]["egress"]
    endpoint = policies(teacher={"endpoint": {"url": "https://api/v1", "model": "m"}})["one-stages"]["egress"][-1]
    for peers in (by_default["to"], endpoint["to"]):
        assert not allowed(peers, address)
        assert allowed(peers, "10.0.0.7")
        assert allowed(peers, "2001:db8::1")
        assert allowed(peers, "fd00::7")
