"""Why things wait, from the fields of what the cluster has: quotas and ranges, events, claims."""

from datetime import UTC, datetime
from typing import Any

import pytest
from tests.unit.kubernetes.world import NOW, SETTINGS, Body, EnvState, come_to, condition, run

from score_distill.executors.kubernetes.admission import fits, room_for
from score_distill.executors.kubernetes.looking import Looking
from score_distill.executors.kubernetes.observe import Children, Trouble
from score_distill.executors.kubernetes.reconcile import Measured, reconcile
from score_distill.executors.kubernetes.waiting import MOST, in_question, newest, unbound, unmounted


def container(requests: Body | None = None, limits: Body | None = None, **more: Any) -> Body:
    return {"name": "any", "resources": {"requests": requests or {}, "limits": limits or {}}, **more}


def pod(*containers: Body, first: tuple[Body, ...] = (), **more: Any) -> Body:
    return {"containers": list(containers), "initContainers": list(first), **more}


def quota(hard: Body, used: Body | None = None, **spec: Any) -> Body:
    return {"spec": {"hard": hard, **spec}, "status": {"hard": hard, "used": used or {}}}


def limit_range(kind: str = "Container", **bounds: Any) -> Body:
    return {"spec": {"limits": [{"type": kind, **bounds}]}}


ONE = container({"cpu": "1", "memory": "1Gi"}, {"cpu": "2", "memory": "2Gi"})
GPUS = container({}, {"cpu": "1", "memory": "1Gi", "nvidia.com/gpu": "4"})
SIDECAR = container({"cpu": "500m", "memory": "1"}, {"cpu": "1", "memory": "1"}, restartPolicy="Always")
HELPER = container({"cpu": "3", "memory": "1"}, {"cpu": "3", "memory": "1"})
HIGH = {"matchExpressions": [{"scopeName": "PriorityClass", "operator": "In", "values": ["high"]}]}
NOT_HIGH = {"matchExpressions": [{"scopeName": "PriorityClass", "operator": "NotIn", "values": ["high"]}]}

ROOM: list[tuple[str, Body, list[Body], list[Body], bool]] = [
    ("nothing narrows", pod(ONE), [], [], True),
    ("an empty quota", pod(ONE), [{"spec": {}}], [], True),
    ("pods left", pod(ONE), [quota({"pods": "3"}, {"pods": "2"})], [], True),
    ("no pods left", pod(ONE), [quota({"pods": "2"}, {"pods": "2"})], [], False),
    ("no pods left, as objects", pod(ONE), [quota({"count/pods": "2"}, {"count/pods": "2"})], [], False),
    ("just enough cpu", pod(ONE), [quota({"requests.cpu": "3"}, {"requests.cpu": "2"})], [], True),
    ("a little too much", pod(ONE), [quota({"requests.cpu": "3"}, {"requests.cpu": "2001m"})], [], False),
    ("cpu without a prefix", pod(ONE), [quota({"cpu": "1500m"}, {"cpu": "1"})], [], False),
    ("memory in other units", pod(ONE), [quota({"limits.memory": "2147483647"})], [], False),
    ("the second quota", pod(ONE), [quota({"pods": "9"}), quota({"limits.cpu": "1"})], [], False),
    ("two containers", pod(ONE, ONE), [quota({"requests.cpu": "1500m"})], [], False),
    ("gpus fit", pod(GPUS), [quota({"requests.nvidia.com/gpu": "8"}, {"requests.nvidia.com/gpu": "4"})], [], True),
    ("gpus do not", pod(GPUS), [quota({"requests.nvidia.com/gpu": "8"}, {"requests.nvidia.com/gpu": "5"})], [], False),
    ("over, by what it does not want", pod(ONE), [quota({"requests.nvidia.com/gpu": "1"}, {"pods": "4"})], [], True),
    ("full of what it does not want", pod(ONE), [quota({"count/secrets": "1"}, {"count/secrets": "1"})], [], True),
    ("limits count as requests", pod(container({}, {"cpu": "2"})), [quota({"requests.cpu": "1"})], [], False),
    ("says no limit", pod(container({"cpu": "1"})), [quota({"limits.cpu": "64"})], [], False),
    ("one of two says no limit", pod(ONE, container({"cpu": "1"})), [quota({"limits.cpu": "64"})], [], False),
    ("need not say a disk", pod(ONE), [quota({"limits.ephemeral-storage": "1Gi"})], [], True),
    (
        "a range says its limit",
        pod(container({"cpu": "1"})),
        [quota({"limits.cpu": "64"})],
        [limit_range(default={"cpu": "2"})],
        True,
    ),
    ("sidecars run beside", pod(ONE, first=(SIDECAR,)), [quota({"requests.cpu": "1400m"})], [], False),
    ("sidecars run beside and fit", pod(ONE, first=(SIDECAR,)), [quota({"requests.cpu": "1500m"})], [], True),
    ("helpers run before", pod(ONE, first=(HELPER,)), [quota({"requests.cpu": "3"})], [], True),
    ("helpers need more", pod(ONE, first=(HELPER,)), [quota({"requests.cpu": "2999m"})], [], False),
    ("helpers beside sidecars", pod(ONE, first=(SIDECAR, HELPER)), [quota({"requests.cpu": "3"})], [], False),
    ("a quota of others", pod(ONE), [quota({"pods": "0"}, scopes=["Terminating"])], [], True),
    ("a quota of its kind", pod(ONE), [quota({"pods": "0"}, scopes=["NotTerminating"])], [], False),
    ("best effort alone", pod(ONE), [quota({"pods": "0"}, scopes=["BestEffort"])], [], True),
    ("best effort", pod(container()), [quota({"pods": "0"}, scopes=["BestEffort"])], [], False),
    ("a scope of tomorrow", pod(ONE), [quota({"pods": "0"}, scopes=["New"])], [], True),
    ("no class", pod(ONE), [quota({"pods": "0"}, scopeSelector=HIGH)], [], True),
    ("the class", pod(ONE, priorityClassName="high"), [quota({"pods": "0"}, scopeSelector=HIGH)], [], False),
    ("not the class", pod(ONE, priorityClassName="high"), [quota({"pods": "0"}, scopeSelector=NOT_HIGH)], [], True),
    ("at most", pod(ONE), [], [limit_range(max={"cpu": "1"})], False),
    ("at most, and no limit", pod(container({"cpu": "1"})), [], [limit_range(max={"cpu": "4"})], False),
    ("at most that", pod(ONE), [], [limit_range(max={"cpu": "2"})], True),
    ("at least", pod(ONE), [], [limit_range(min={"memory": "2Gi"})], False),
    ("at least, of a first one", pod(ONE, first=(HELPER,)), [], [limit_range(min={"memory": "1Mi"})], False),
    ("a ratio", pod(ONE), [], [limit_range(maxLimitRequestRatio={"cpu": "1500m"})], False),
    ("that ratio", pod(ONE), [], [limit_range(maxLimitRequestRatio={"cpu": "2"})], True),
    ("a whole pod", pod(ONE, ONE), [], [limit_range("Pod", max={"cpu": "3"})], False),
    ("a range of claims", pod(ONE), [], [limit_range("PersistentVolumeClaim", max={"storage": "1"})], True),
]


@pytest.mark.parametrize(("what", "spec", "quotas", "ranges", "room"), ROOM, ids=[one[0] for one in ROOM])
def test_a_pod_fits_as_admission_counts(
    what: str, spec: Body, quotas: list[Body], ranges: list[Body], room: bool
) -> None:
    assert fits(spec, quotas, ranges) is room


@pytest.mark.parametrize(
    ("kind", "hard", "room"),
    [
        ("jobs.batch", {"count/jobs.batch": "1"}, False),
        ("jobs.batch", {"count/jobs.batch": "2"}, True),
        ("jobs.batch", {"count/deployments.apps": "1"}, True),
        ("secrets", {"secrets": "1"}, False),
        ("services", {"count/services": "1"}, False),
    ],
)
def test_objects_are_counted_by_themselves(kind: str, hard: Body, room: bool) -> None:
    assert room_for(kind, [quota(hard, dict.fromkeys(hard, "1"))]) is room


def at(second: float) -> str:
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def event(reason: str, second: float, message: str = "words", **more: Any) -> Body:
    made = {"creationTimestamp": at(NOW)}
    return {"metadata": made, "reason": reason, "message": message, "lastTimestamp": at(NOW + second), **more}


MOUNT = Trouble("MountFailed", "words")


@pytest.mark.parametrize(
    ("events", "trouble"),
    [
        ([], None),
        ([event("FailedMount", 1)], MOUNT),
        ([event("FailedAttachVolume", 1)], MOUNT),
        ([event("Pulling", 1)], None),
        ([event("FailedMount", 1), event("Pulling", 2)], None),
        ([event("FailedMount", 3), event("Pulling", 2)], MOUNT),
        ([event("FailedMount", 1), event("Scheduled", 1)], MOUNT),
        ([event("FailedMount", 0, lastTimestamp=None, eventTime=at(NOW + 9)), event("Pulling", 2)], MOUNT),
        ([event("FailedMount", 0, series={"count": 2, "lastObservedTime": at(NOW + 9)}), event("Pulling", 2)], MOUNT),
        ([event("FailedMount", 0, lastTimestamp=None), event("Pulling", 2)], None),
    ],
)
def test_a_volume_that_is_not_mounted_is_the_last_that_the_node_said(
    events: list[Body], trouble: Trouble | None
) -> None:
    assert unmounted(events) == trouble


@pytest.mark.parametrize(
    ("claim", "events", "words"),
    [
        (None, [], "claim c does not exist"),
        ({"status": {"phase": "Bound"}}, [event("FailedBinding", 1)], None),
        ({"status": {"phase": "Pending"}}, [event("FailedBinding", 1, "no volumes")], "claim c is Pending: no volumes"),
        ({"status": {"phase": "Pending"}}, [event("WaitForFirstConsumer", 1)], None),
        ({"status": {"phase": "Pending"}}, [event("WaitForPodScheduled", 1)], None),
        (
            {"status": {"phase": "Pending"}},
            [event("WaitForFirstConsumer", 1), event("ProvisioningFailed", 2, "no disk")],
            "claim c is Pending: no disk",
        ),
        ({"status": {"phase": "Lost"}}, [], "claim c is Lost: it says no more"),
        ({}, [], "claim c is Pending: it says no more"),
    ],
)
def test_a_claim_without_a_volume_is_told_unless_it_waits_for_the_pod(
    claim: Body | None, events: list[Body], words: str | None
) -> None:
    assert unbound("c", claim, events) == (Trouble("VolumePending", words) if words else None)


def test_the_newest_event_of_a_reason() -> None:
    events = [event("FailedCreate", 1, "old"), event("FailedCreate", 2, "new"), event("SuccessfulCreate", 3)]
    found = newest(events, "FailedCreate")
    assert found is not None
    assert found["message"] == "new"


def job(name: str = "job", made: float = NOW - 60, status: Body | None = None, **spec: Any) -> Body:
    metadata = {"name": name, "namespace": "team", "uid": name, "labels": {}, "creationTimestamp": at(made)}
    return {"kind": "Job", "metadata": metadata, "spec": {"parallelism": 1, **spec}, "status": status or {}}


def stage(of: str = "job", node: str = "node", status: Body | None = None, **metadata: Any) -> Body:
    owner = [{"uid": of, "controller": True}]
    labels = {"batch.kubernetes.io/job-name": of}
    made = {"name": "pod", "uid": "pod", "labels": labels, "ownerReferences": owner, "creationTimestamp": at(NOW - 60)}
    spec = {"nodeName": node, "volumes": [{"name": "c", "persistentVolumeClaim": {"claimName": "c"}}]}
    return {"kind": "Pod", "metadata": made | metadata, "spec": spec, "status": {"phase": "Pending"} | (status or {})}


UNPLACED = {"conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}]}
GATED = {"conditions": [{"type": "PodScheduled", "status": "False", "reason": "SchedulingGated"}]}
FAILURE = {"conditions": [{"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate"}]}
RUNNING, PULLS = ({"name": "any", "state": {one: {}}} for one in ("running", "waiting"))
ASKED: list[tuple[str, Children, list[str]]] = [
    ("no pod", Children([job()]), ["job"]),
    ("a young job", Children([job(made=NOW - 1)]), []),
    ("a job in a queue", Children([job(suspend=True)]), []),
    ("a job that ended", Children([job(status={"conditions": [{"type": "Complete", "status": "True"}]})]), []),
    ("one of two pods", Children([job(parallelism=2)], [stage(status={"phase": "Running"})]), ["job"]),
    ("a pod that runs", Children([job()], [stage(status={"phase": "Running"})]), []),
    ("a pod that begins", Children([job()], [stage()]), ["pod"]),
    ("a pod that fetches", Children([job()], [stage(status={"initContainerStatuses": [RUNNING]})]), []),
    ("a pod that waits", Children([job()], [stage(status={"containerStatuses": [PULLS]})]), ["pod"]),
    ("a pod without a node", Children([job()], [stage(node="")]), []),
    ("a pod that is not placed", Children([job()], [stage(node="", status=UNPLACED)]), ["pod"]),
    ("a pod that is gated", Children([job()], [stage(node="", status=GATED)]), []),
    ("a pod that leaves", Children([job()], [stage(deletionTimestamp=at(NOW))]), []),
    ("a server that is refused", Children(deployments=[job("server", status=FAILURE)]), ["server"]),
    ("a server that loads", Children(deployments=[job("server")]), []),
    ("many", Children([job(str(n)) for n in range(99)]), [str(n) for n in range(MOST)]),
]


@pytest.mark.parametrize(("what", "children", "asked"), ASKED, ids=[one[0] for one in ASKED])
def test_only_what_waits_and_does_not_say_why_is_asked_about(what: str, children: Children, asked: list[str]) -> None:
    assert [one["metadata"]["uid"] for one in in_question(children, NOW)] == asked


class Answers:
    """What a cluster says of Jobs that are refused; counts how often it is asked."""

    def __init__(self, *events: Body) -> None:
        self.said, self.asked, self.pods = list(events), 0, "0"

    def events(self, metadata: Body) -> list[Body]:
        self.asked += 1
        return self.said

    def get(self, kind: str, metadata: Body) -> Body | None:
        return {"spec": {"template": {"spec": pod(ONE)}}}

    def all_of(self, kind: str, namespace: str) -> list[Body]:
        return [quota({"pods": self.pods})] if kind == "ResourceQuota" else []


def test_the_cluster_is_asked_no_more_often_than_its_answers_change() -> None:
    waits, key = Children([job()]), ("team", "run")
    cluster = Answers()
    looking = Looking(cluster)
    assert looking.look(key, waits, NOW) == looking.look(key, waits, NOW + 1) == {}
    assert cluster.asked == 1
    cluster.said = [event("FailedCreate", 1)]
    for second in (10, 11, 39):
        assert looking.look(key, waits, NOW + second) == {"job": Trouble("QuotaExceeded", "words")}
    assert cluster.asked == 2
    cluster.said = [event("FailedCreate", 1), event("FailedCreate", 2, "other words")]
    assert looking.look(key, waits, NOW + 41) == {"job": Trouble("QuotaExceeded", "other words")}
    goes = Children([job()], [stage(status={"phase": "Running"})])
    assert looking.look(key, goes, NOW + 42) == {}
    assert looking.look(key, waits, NOW + 43) == {"job": Trouble("QuotaExceeded", "other words")}
    assert cluster.asked == 4


def test_quota_that_is_free_since_is_not_taken_for_a_policy() -> None:
    waits, key, cluster = Children([job()]), ("team", "run"), Answers(event("FailedCreate", 1))
    looking = Looking(cluster)
    looking.look(key, waits, NOW)
    cluster.pods = "9"
    assert looking.look(key, waits, NOW + 31) == {"job": Trouble("QuotaExceeded", "words")}
    cluster.said = [event("FailedCreate", 40, "other words")]
    assert looking.look(key, waits, NOW + 62) == {"job": Trouble("PolicyRefused", "other words")}


REFUSED = Trouble("QuotaExceeded", "exceeded quota: q")


def told(world: EnvState, body: Body, *bodies: Body) -> Body:
    """The status after a pass in which the cluster refused something to these."""
    for n, one in enumerate(bodies):
        one["metadata"]["uid"] = str(n)
    words = {str(n): REFUSED for n in range(len(bodies))}
    changes = reconcile(body, world.children, Measured(), SETTINGS, NOW, words)
    assert changes.status is not None
    return {"status": changes.status}


def test_a_step_whose_pods_are_refused_does_not_progress() -> None:
    world, body = come_to("sft")
    found = condition(told(world, body, world.jobs["one-sft-1"]), "Progressing")
    assert (found["status"], found["reason"], found["message"]) == ("False", "QuotaExceeded", "exceeded quota: q")


def test_a_server_whose_pods_are_refused_is_not_loading() -> None:
    world, body = EnvState(), run()
    world.take(reconcile(body, world.children, Measured(), SETTINGS, NOW))
    found = condition(told(world, body, world.deployments["one-teacher"]), "TeacherReady")
    assert (found["reason"], found["message"]) == ("QuotaExceeded", "exceeded quota: q")


def test_a_server_that_answers_has_no_trouble() -> None:
    world, body = come_to("mentor")
    found = condition(told(world, body, world.deployments["one-student"]), "Progressing")
    assert found["reason"] == "StepRunning"
