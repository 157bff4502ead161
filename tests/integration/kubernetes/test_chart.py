"""The chart on a real API server of its own, since it owns the CRD: what Helm installs, and the rights it gives."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes import client
from kubernetes.client.exceptions import ApiException
from tests.cluster.control_plane import ControlPlane
from tests.cluster.control_plane import control_plane as start_control_plane
from tests.cluster.helm import helm
from tests.cluster.processes import free_ports, start
from tests.cluster.waiting import eventually

from score_distill.api import GROUP, VERSION
from score_distill.executors.kubernetes.settings import GATEWAY, SANDBOX

ROOT = Path(__file__).parents[3]
CHART = ROOT / "charts" / "score-operator"
CRD = f"distillationruns.{GROUP}"
EXAMPLE = ROOT / "examples" / "kubernetes" / "quickstart.yaml"
OPERATORS, NAME = "operators", "score-operator"
NARROW_OPERATORS, WATCHED = "narrow", ("team-a", "team-b")
RIGHTS = {
    (GROUP, "distillationruns"): {"delete", "list", "watch"},
    (GROUP, "distillationruns/status"): {"patch"},
    (GROUP, "distillationruns/finalizers"): {"update"},
    ("batch", "jobs"): {"create", "delete", "get", "list", "patch", "watch"},
    ("apps", "deployments"): {"create", "delete", "get", "list", "patch", "watch"},
    ("apps", "replicasets"): {"list", "watch"},
    ("", "configmaps"): {"create", "delete", "get", "patch"},
    ("", "services"): {"create", "delete", "get", "list", "patch", "watch"},
    ("networking.k8s.io", "networkpolicies"): {"create", "get", "list", "patch", "watch"},
    ("", "pods"): {"list", "watch"},
    ("", "secrets"): {"create"},
    ("", "events"): {"create", "list"},
    ("", "persistentvolumeclaims"): {"get"},
    ("", "limitranges"): {"list"},
    ("", "resourcequotas"): {"list"},
}


@dataclass(frozen=True)
class Helm:
    plane: ControlPlane
    home: Path

    def __call__(self, *arguments: object, check: bool = True) -> subprocess.CompletedProcess[str]:
        homes = {f"HELM_{kind}_HOME": str(self.home / kind) for kind in ("CACHE", "CONFIG", "DATA")}
        environ = {**os.environ, **homes, "KUBECONFIG": str(self.plane.admin)}
        command = [helm(), *arguments]
        ran = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=120)
        assert not check or ran.returncode == 0, ran.stderr
        return ran


@pytest.fixture(scope="module")
def plane() -> Iterator[ControlPlane]:
    with start_control_plane() as plane:
        core = client.CoreV1Api(plane.client())
        restricted = {"pod-security.kubernetes.io/enforce": "restricted"}
        for name in (OPERATORS, NARROW_OPERATORS, *WATCHED):
            core.create_namespace({"metadata": {"name": name, "labels": restricted}})
        yield plane


@pytest.fixture(scope="module")
def helmed(plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Helm:
    """Helm, with one operator installed for all namespaces and one for WATCHED alone."""
    run = Helm(plane, tmp_path_factory.mktemp("helm"))
    run("install", NAME, CHART, "--namespace", OPERATORS)
    watched = f"watchNamespaces={{{','.join(WATCHED)}}}"
    run("install", NAME, CHART, "--namespace", NARROW_OPERATORS, "--set", watched, "--set", "crds.enabled=false")
    return run


def account(plane: ControlPlane, namespace: str) -> client.ApiClient:
    return plane.client(kubeconfig(plane, namespace))


def kubeconfig(plane: ControlPlane, namespace: str) -> Path:
    groups = ["system:serviceaccounts", f"system:serviceaccounts:{namespace}"]
    return plane.kubeconfig(f"system:serviceaccount:{namespace}:{NAME}", groups)


def test_one_command_installs_an_operator_whose_pod_a_restricted_namespace_admits(
    helmed: Helm, plane: ControlPlane
) -> None:
    core = client.CoreV1Api(plane.client())

    def has_a_pod() -> None:
        for namespace in (OPERATORS, NARROW_OPERATORS):
            [pod] = core.list_namespaced_pod(namespace).items
            assert pod.spec.service_account_name == NAME

    eventually(has_a_pod)


def test_everything_that_can_be_switched_on_is_accepted(helmed: Helm, plane: ControlPlane, tmp_path: Path) -> None:
    values = {
        "images": {"registry": "ghcr.io/owner/", "pullSecrets": ["mine"], "worker": {"digest": f"sha256:{'0' * 64}"}},
        "nodeSelector": {"kubernetes.io/os": "linux"},
        "tolerations": [{"key": "operators", "operator": "Exists"}],
        "affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []}},
        "priorityClassName": "system-cluster-critical",
        "networkPolicy": {"metricsFrom": [{"namespaceSelector": {"matchLabels": {"team": "monitoring"}}}]},
        "podDisruptionBudget": {"enabled": True, "maxUnavailable": 0},
        "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
        "metrics": {"rules": {"enabled": True, "labels": {"release": "prometheus"}}},
        "crds": {"enabled": False},
    }
    given = tmp_path / "values.yaml"
    given.write_text(yaml.safe_dump(values))
    rendered = helmed("template", "other", CHART, "--namespace", OPERATORS, "--values", given).stdout
    objects = [one for one in yaml.safe_load_all(rendered) if one]
    kinds = {one["kind"] for one in objects}
    assert {"PodDisruptionBudget", "NetworkPolicy", "ServiceMonitor", "PrometheusRule"} <= kinds
    [rule] = [one for one in objects if one["kind"] == "PrometheusRule"]
    assert rule["metadata"]["labels"]["release"] == "prometheus"
    assert rule["spec"] == yaml.safe_load((CHART / "files/rules.yaml").read_text())
    known = yaml.safe_dump_all(one for one in objects if one["apiVersion"] != "monitoring.coreos.com/v1")
    kubectl = [
        plane.kubectl,
        f"--kubeconfig={plane.admin}",
        "apply",
        "--dry-run=server",
        "--validate=strict",
        "-f",
        "-",
    ]
    applied = subprocess.run(kubectl, input=known, capture_output=True, text=True, timeout=60)
    assert applied.returncode == 0, applied.stderr
    [container] = next(one for one in objects if one["kind"] == "Deployment")["spec"]["template"]["spec"]["containers"]
    environ = {one["name"]: one.get("value") for one in container["env"]}
    assert container["image"] == "ghcr.io/owner/score-distill/operator:0.1.0"
    assert environ["SCORE_IMAGE_WORKER"] == f"ghcr.io/owner/score-distill/worker@sha256:{'0' * 64}"


def test_an_image_that_names_its_host_is_not_looked_for_in_the_registry(helmed: Helm) -> None:
    serving = "images.serving.repository=docker.io/vllm/vllm-openai,images.serving.tag=v1"
    rendered = helmed("template", NAME, CHART, "--set", f"images.registry=ghcr.io/owner,{serving}").stdout
    assert '"docker.io/vllm/vllm-openai:v1"' in rendered


def test_what_a_chart_gives_to_gateways_and_sandboxes_is_the_operators_own_default(helmed: Helm) -> None:
    rendered = yaml.safe_load_all(helmed("template", NAME, CHART).stdout)
    [deployment] = [one for one in rendered if one and one["kind"] == "Deployment"]
    [container] = deployment["spec"]["template"]["spec"]["containers"]
    [told] = [one["value"] for one in container["env"] if one["name"] == "SCORE_BESIDE"]
    assert json.loads(told) == {"gateway": GATEWAY, "sandbox": SANDBOX}


def test_names_that_look_like_numbers_and_booleans_are_names(helmed: Helm) -> None:
    words = ["--set-json", 'watchNamespaces=["2024","n"]', "--set-json", 'images.pullSecrets=["1"]']
    helmed("install", "1", CHART, "--namespace", "y", "--dry-run=server", "--set", "crds.enabled=false", *words)


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ("replicas=0", "/replicas"),
        ("replica=1", "replica"),
        ("images.worker.repo=x", "repo"),
        ("images.pullPolicy=Sometimes", "/images/pullPolicy"),
        ("images.trainer.repository=https://x/y", "/images/trainer/repository"),
        ("images.operator.digest=sha256:1", "/images/operator/digest"),
        ("watchNamespaces={Team_A}", "/watchNamespaces/0"),
        ("watchNamespaces=team-a", "/watchNamespaces"),
        ("metrics.port=70000", "/metrics/port"),
        ("metrics.port=8080", "/metrics/port"),
        ("crds.enabled=perhaps", "/crds/enabled"),
        ("networkPolicy.runs.egress=all", "/networkPolicy/runs/egress"),
        ("networkPolicy.apiServerPorts={}", "/networkPolicy/apiServerPorts"),
        ("podDisruptionBudget.maxUnavailable=2", "/podDisruptionBudget/maxUnavailable"),
        ("serviceMonitor.interval=often", "/serviceMonitor/interval"),
        ("resources.cpu=1", "cpu"),
    ],
)
def test_a_bad_value_is_refused_by_name(helmed: Helm, given: str, named: str) -> None:
    refused = helmed("template", NAME, CHART, "--set", given, check=False)
    assert refused.returncode != 0
    assert named in refused.stderr


def test_an_operator_of_some_namespaces_has_no_cluster_role(helmed: Helm, plane: ControlPlane) -> None:
    rights = client.RbacAuthorizationV1Api(plane.client())
    for namespace in WATCHED:
        [binding] = rights.list_namespaced_role_binding(namespace).items
        assert [(one.name, one.namespace) for one in binding.subjects] == [(NAME, NARROW_OPERATORS)]
    bound = [
        one
        for one in rights.list_cluster_role_binding().items
        for subject in one.subjects or ()
        if subject.namespace == NARROW_OPERATORS
    ]
    assert bound == []
    batch = client.BatchV1Api(account(plane, NARROW_OPERATORS))
    batch.list_namespaced_job(WATCHED[0])
    assert status_of(lambda: batch.list_namespaced_job("default")) == 403
    assert status_of(batch.list_job_for_all_namespaces) == 403


@pytest.mark.parametrize("operator", [OPERATORS, NARROW_OPERATORS])
def test_its_rights_are_these_and_no_other(helmed: Helm, plane: ControlPlane, operator: str) -> None:
    api = client.AuthorizationV1Api(account(plane, operator))
    review = api.create_self_subject_rules_review({"spec": {"namespace": WATCHED[0]}})
    found: dict[tuple[str, str], set[str]] = {}
    for rule in review.status.resource_rules:
        for group in rule.api_groups:
            for resource in rule.resources:
                found.setdefault((group, resource), set()).update(rule.verbs)
    everybodys = ("authorization.k8s.io", "authentication.k8s.io")
    assert {key: verbs for key, verbs in found.items() if key[0] not in everybodys} == RIGHTS


def test_it_reads_no_secret_enters_no_pod_and_touches_nothing_else(helmed: Helm, plane: ControlPlane) -> None:
    admin, namespace = client.CoreV1Api(plane.client()), WATCHED[1]
    admin.create_namespaced_secret(namespace, {"metadata": {"name": "theirs"}})
    api = account(plane, OPERATORS)
    core, objects = client.CoreV1Api(api), client.CustomObjectsApi(api)
    core.list_namespaced_pod(namespace)
    forbidden = {
        "read a secret": lambda: core.read_namespaced_secret("theirs", namespace),
        "list secrets": lambda: core.list_namespaced_secret(namespace),
        "change a secret": lambda: core.patch_namespaced_secret("theirs", namespace, {}),
        "exec": lambda: core.connect_post_namespaced_pod_exec("any", namespace, command=["id"]),
        "logs": lambda: core.read_namespaced_pod_log("any", namespace),
        "make a pod": lambda: core.create_namespaced_pod(namespace, {"spec": {"containers": []}}),
        "a token": lambda: core.create_namespaced_service_account_token("default", namespace, {"spec": {}}),
        "nodes": core.list_node,
        "namespaces": core.list_namespace,
        "roles": lambda: client.RbacAuthorizationV1Api(api).list_namespaced_role(namespace),
        "ingresses": lambda: client.NetworkingV1Api(api).list_namespaced_ingress(namespace),
        "CRDs": client.ApiextensionsV1Api(api).list_custom_resource_definition,
        "a run's spec": lambda: objects.patch_namespaced_custom_object(
            GROUP, VERSION, namespace, "distillationruns", "any", {}
        ),
    }
    assert {what: status_of(call) for what, call in forbidden.items()} == dict.fromkeys(forbidden, 403)


def test_its_lease_is_all_that_it_has_in_its_own_namespace(helmed: Helm, plane: ControlPlane) -> None:
    leases = client.CoordinationV1Api(account(plane, NARROW_OPERATORS))
    assert status_of(lambda: leases.read_namespaced_lease("another", NARROW_OPERATORS)) == 403
    assert status_of(lambda: leases.read_namespaced_lease(NAME, WATCHED[0])) == 403
    assert status_of(lambda: leases.read_namespaced_lease(NAME, NARROW_OPERATORS)) in (200, 404)
    core = client.CoreV1Api(account(plane, NARROW_OPERATORS))
    assert status_of(lambda: core.list_namespaced_pod(NARROW_OPERATORS)) == 403


def status_of(call: Any) -> int:
    try:
        call()
    except ApiException as error:
        return int(error.status)
    return 200


@pytest.mark.parametrize("operator", [OPERATORS, NARROW_OPERATORS])
def test_the_operator_works_with_these_arguments_and_rights(
    helmed: Helm, plane: ControlPlane, operator: str, tmp_path: Path
) -> None:
    """It starts what a run needs, says so in the status, and removes it when the run is suspended."""
    admin, namespace = plane.client(), WATCHED[0]
    runs, batch, apps = client.CustomObjectsApi(admin), client.BatchV1Api(admin), client.AppsV1Api(admin)
    where = (GROUP, VERSION, namespace, "distillationruns")
    run = yaml.safe_load(EXAMPLE.read_text())
    run["metadata"] = {"name": f"run-{operator}", "namespace": namespace}
    runs.create_namespaced_custom_object(*where, run)
    name = run["metadata"]["name"]
    mine = f"{GROUP}/run={name}"
    daemon = start(*as_installed(apps, plane, operator, tmp_path))
    try:

        def is_started() -> None:
            daemon.check()
            text = (tmp_path / "operator.log").read_text()
            status = runs.get_namespaced_custom_object(*where, name).get("status", {})
            assert status.get("steps"), text
            assert batch.list_namespaced_job(namespace, label_selector=mine).items, text
            assert apps.list_namespaced_deployment(namespace, label_selector=mine).items, text

        eventually(is_started, within=60)
        runs.patch_namespaced_custom_object(*where, name, {"spec": {"suspend": True}})

        def is_stopped() -> None:
            daemon.check()
            assert not batch.list_namespaced_job(namespace, label_selector=mine).items
            assert not apps.list_namespaced_deployment(namespace, label_selector=mine).items

        eventually(is_stopped, within=60)
    finally:
        daemon.stop()
        runs.delete_namespaced_custom_object(*where, name)
    assert "Forbidden" not in (tmp_path / "operator.log").read_text()


def as_installed(
    apps: client.AppsV1Api, plane: ControlPlane, namespace: str, folder: Path
) -> tuple[list[object], Path, str, list[str]]:
    """The command of the operator's container as the API server has it, for a process of this machine."""
    [container] = apps.read_namespaced_deployment(NAME, namespace).spec.template.spec.containers
    health, metrics = free_ports(2)
    told = {one.name: one.value or namespace for one in container.env}
    told |= {"SCORE_METRICS_PORT": str(metrics), "KUBECONFIG": str(kubeconfig(plane, namespace)), "HOME": str(folder)}
    words = [str(word).replace("0.0.0.0:8080", f"127.0.0.1:{health}") for word in container.args]
    words = [word.replace("/app/operator", str(ROOT / "operator")) for word in words]
    command = [sys.executable, "-m", *container.command, *words]
    return command, folder / "operator.log", "operator", ["env", *(f"{name}={value}" for name, value in told.items())]


READ, WRITE = {"get", "list", "watch"}, {"create", "delete", "deletecollection", "patch", "update"}


@pytest.mark.parametrize(("role", "may"), [("view", READ), ("edit", READ | WRITE), ("admin", READ | WRITE)])
def test_who_may_view_edit_or_administer_a_namespace_may_its_runs_but_not_what_the_operator_says_of_them(
    helmed: Helm, plane: ControlPlane, role: str, may: set[str]
) -> None:
    api, user = plane.client(), f"{role}-of-a"
    rbac, reviews = client.RbacAuthorizationV1Api(api), client.AuthorizationV1Api(api)
    binding = {
        "metadata": {"name": user},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}],
    }
    rbac.create_namespaced_role_binding("team-a", binding)

    def allowed(namespace: str, subresource: str = "") -> set[str]:
        asked = {"group": GROUP, "resource": "distillationruns", "subresource": subresource, "namespace": namespace}
        return {
            verb
            for verb in READ | WRITE
            if reviews.create_subject_access_review(
                {"spec": {"user": user, "resourceAttributes": {**asked, "verb": verb}}}
            ).status.allowed
        }

    def has_its_rights() -> None:
        assert allowed("team-a") == may

    eventually(has_its_rights)
    assert allowed("team-a", "status") <= READ
    assert allowed("team-b") == set()


def test_an_upgrade_upgrades_the_crd_and_an_end_leaves_it(helmed: Helm, plane: ControlPlane, tmp_path: Path) -> None:
    definitions = client.ApiextensionsV1Api(plane.client())
    newer = Path(shutil.copytree(CHART, tmp_path / "chart"))
    file = newer / "files" / "distill.score.dev_distillationruns.yaml"
    file.write_text(file.read_text().replace("    - drun\n", "    - drun\n    - newer\n"))
    helmed("upgrade", NAME, newer, "--namespace", OPERATORS)
    assert "newer" in definitions.read_custom_resource_definition(CRD).spec.names.short_names
    helmed("uninstall", NAME, "--namespace", OPERATORS)
    definitions.read_custom_resource_definition(CRD)
