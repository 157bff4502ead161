import json

import pytest
from kubernetes import client
from kubernetes.client.exceptions import ApiException
from tests.cluster.control_plane import ControlPlane
from tests.cluster.waiting import eventually

GROUP, PLURAL = "tests.invalid", "spans"
CRD = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": f"{PLURAL}.{GROUP}"},
    "spec": {
        "group": GROUP,
        "scope": "Namespaced",
        "names": {"plural": PLURAL, "singular": "span", "kind": "Span"},
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "schema": {
                    "openAPIV3Schema": {
                        "type": "object",
                        "properties": {
                            "spec": {
                                "type": "object",
                                "properties": {"first": {"type": "integer"}, "last": {"type": "integer"}},
                                "required": ["first", "last"],
                                "x-kubernetes-validations": [
                                    {"rule": "self.first <= self.last", "message": "first is after last"}
                                ],
                            }
                        },
                    }
                },
            }
        ],
    },
}


def span(name: str, first: int, last: int) -> dict[str, object]:
    spec = {"first": first, "last": last}
    return {"apiVersion": f"{GROUP}/v1", "kind": "Span", "metadata": {"name": name}, "spec": spec}


def wait_until_served(extensions: client.ApiextensionsV1Api) -> None:
    def served() -> None:
        conditions = extensions.read_custom_resource_definition(f"{PLURAL}.{GROUP}").status.conditions or []
        assert any(one.type == "Established" and one.status == "True" for one in conditions), conditions

    eventually(served)


def test_an_object_that_breaks_a_rule_is_refused_and_a_good_one_outlives_a_restart(control_plane: ControlPlane) -> None:
    api = control_plane.client()
    extensions, objects = client.ApiextensionsV1Api(api), client.CustomObjectsApi(api)
    client.CoreV1Api(api).create_namespace({"metadata": {"name": "spans"}})
    extensions.create_custom_resource_definition(CRD)
    wait_until_served(extensions)
    with pytest.raises(ApiException) as refused:
        objects.create_namespaced_custom_object(GROUP, "v1", "spans", PLURAL, span("bad", 2, 1))
    assert refused.value.status == 422
    assert "first is after last" in json.loads(refused.value.body)["message"]
    objects.create_namespaced_custom_object(GROUP, "v1", "spans", PLURAL, span("good", 1, 2))

    control_plane.restart_apiserver()
    kept = objects.get_namespaced_custom_object(GROUP, "v1", "spans", PLURAL, "good")
    assert kept["spec"] == {"first": 1, "last": 2}


def test_a_user_may_do_what_is_bound_to_it_and_nothing_else(control_plane: ControlPlane) -> None:
    admin, name = control_plane.client(), {"name": "reader"}
    rule = {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["list"]}
    group = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "readers"}
    client.CoreV1Api(admin).create_namespace({"metadata": name})
    rights = client.RbacAuthorizationV1Api(admin)
    rights.create_namespaced_role("reader", {"metadata": name, "rules": [rule]})
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "reader"}
    rights.create_namespaced_role_binding("reader", {"metadata": name, "subjects": [group], "roleRef": role})

    reader = client.CoreV1Api(control_plane.client(control_plane.kubeconfig("someone", ["readers"])))
    reader.list_namespaced_config_map("reader")
    with pytest.raises(ApiException) as refused:
        reader.list_namespaced_secret("reader")
    assert refused.value.status == 403


def test_the_controllers_run(control_plane: ControlPlane) -> None:
    """A Job gets its pod, which stays pending for want of a node."""
    api = control_plane.client()
    core = client.CoreV1Api(api)
    core.create_namespace({"metadata": {"name": "jobs"}})
    pod = {"restartPolicy": "Never", "containers": [{"name": "one", "image": "registry.invalid/none:1"}]}
    job = {"metadata": {"name": "one"}, "spec": {"template": {"spec": pod}}}
    client.BatchV1Api(api).create_namespaced_job("jobs", job)

    def has_a_pod() -> None:
        phases = [one.status.phase for one in core.list_namespaced_pod("jobs").items]
        assert phases == ["Pending"], control_plane.log("kube-controller-manager")

    eventually(has_a_pod)
