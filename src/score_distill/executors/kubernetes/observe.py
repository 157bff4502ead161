"""What the children of a run say, in the policy's words. Pure: bodies of objects in, observations out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from score_distill.api import PlaceStatus, Status, StepStatus
from score_distill.contract import Progress, Summary
from score_distill.control.places import Place, PodsState
from score_distill.control.plan import Done, done_with
from score_distill.control.policy import Ending, Observed, Record
from score_distill.errors import Exit
from score_distill.executors.kubernetes.endings import (
    LOST_SECONDS,
    condition,
    ended,
    ending,
    lost,
    seconds,
    summaries_of,
    summary,
)
from score_distill.executors.kubernetes.names import ATTEMPT, QUEUE, ROLE, SERVER, STEP, Body, owned
from score_distill.executors.kubernetes.pods import GRACE_SECONDS

USAGE = 2
"""The exit code of argparse, and so of vLLM, for arguments that it does not take."""


@dataclass(frozen=True)
class Children:
    """The objects of one run that a cache or the API server has; ``access`` are its Services and NetworkPolicies."""

    jobs: Sequence[Body] = ()
    pods: Sequence[Body] = ()
    deployments: Sequence[Body] = ()
    access: Sequence[Body] = ()

    def pods_of(self, job: Body) -> list[Body]:
        """Its own, and not those that an earlier Job of its name has left."""
        name, uid = job["metadata"]["name"], job["metadata"].get("uid")
        named = [pod for pod in self.pods if label(pod, "batch.kubernetes.io/job-name") == name]
        return [pod for pod in named if uid is None or owned(pod, uid)]

    @property
    def unfinished(self) -> list[Body]:
        """The Jobs that have not ended, but those that are being deleted."""
        return [job for job in self.jobs if not over(job) and "deletionTimestamp" not in job["metadata"]]

    def pods_for(self, role: str) -> list[Body]:
        return [pod for pod in self.pods if label(pod, ROLE) == role]


@dataclass(frozen=True)
class Trouble:
    """Why pods do not run: a reason that a person can act on, and the words of whoever said so."""

    reason: str
    message: str


NOTHING: Mapping[str, Trouble] = {}
UNTOLD = "its result is in the store, and its pod is gone without a word of it"


@dataclass(frozen=True)
class Seen:
    """``endings`` and ``summaries`` are of attempts that ended since the last status; ``gpu_seconds`` theirs."""

    observed: Observed
    summaries: Mapping[str, Summary] = field(default_factory=dict)
    trouble: Trouble | None = None


def over(job: Body) -> bool:
    return bool(condition(job, "Complete") or condition(job, "Failed"))


def label(body: Body, name: str) -> str:
    return str(body["metadata"].get("labels", {}).get(name, ""))


def observe(
    status: Status,
    children: Children,
    progress: Mapping[str, Progress],
    now: float,
    *,
    retry: bool = False,
    endpoint: bool = False,
    told: Mapping[str, Trouble] = NOTHING,
) -> Seen:
    """``retry`` forgets failures that were final: the spec was changed since. An ``endpoint`` is no teacher of ours.

    ``told`` is why objects wait that do not say so themselves, by uid.
    """
    done = {one.name: _done(one) for one in status.steps if one.state == "Succeeded"}
    records, summaries = dict[str, Record](), dict[str, Summary]()
    jobs = [job for job in children.jobs if over(job) or "deletionTimestamp" not in job["metadata"]]
    newest = {label(job, STEP): job for job in sorted(jobs, key=_attempt)}
    before = {one.name: one for one in status.steps}
    for name in {*newest, *before} - done.keys():
        old = before.get(name, StepStatus(name=name, state="Waiting"))
        record, job = _record(old, now, retry), newest.get(name)
        if job is not None and _attempt(job) < old.attempt:
            job = None
        attempt = _attempt(job) if job else old.attempt
        gone = [pod for pod in children.pods if (label(pod, STEP), _attempt(pod)) == (name, attempt) and lost(pod, now)]
        complete = [one for one in jobs if label(one, STEP) == name and condition(one, "Complete")]
        if any(_attempt(one) >= old.attempt and one is not job for one in complete):
            record = replace(record, committed=True)
        if job and condition(job, "Complete"):
            said = summary(children.pods_of(job))
            spoke = len(summaries_of(children.pods_of(job))) >= job["spec"].get("parallelism", 1)
            if said is not None and (said.digest or spoke):
                summaries[name] = said
                done[name] = done_with(name, attempt, said.counts, said.tokens)
            elif any(not ended(pod) and not lost(pod, now) for pod in children.pods_of(job)):
                records[name] = record.started(attempt)
            elif not record.committed:
                records[name] = replace(record, attempt=attempt, ended=None, committed=True)
            elif old.attempt == attempt and old.state != "Running":
                records[name] = replace(record, attempt=attempt)
            else:
                records[name] = record.started(attempt).failed(Ending(int(Exit.INFRASTRUCTURE), UNTOLD, now), old.done)
        elif gone or (job and condition(job, "Failed")):
            if old.attempt == attempt and old.state != "Running":
                records[name] = replace(record, attempt=attempt)
            else:
                why = ending(children.pods_of(job), condition(job, "Failed"), now) if job else ending(gone, None, now)
                reached = progress[name].done if name in progress else old.done
                records[name] = record.started(attempt).failed(why, reached)
        elif job:
            records[name] = record.started(attempt)
        else:
            taken = [_attempt(one) for one in children.jobs if label(one, STEP) == name and held(one, now)]
            records[name] = replace(record, attempt=max([record.attempt, *taken]))
    servers = {"sandbox": PodsState(True)}
    for role in ("teacher", "student"):
        servers[role] = PodsState(True) if role == "teacher" and endpoint else _server(role, children, told)
    answered = {label(one, ROLE) for one in children.deployments if rolled_out(one)}
    named = [(pod, label(pod, ROLE) in answered) for pod in children.pods]
    troubles = [found for pod, once in named if (found := _of(pod, told) or trouble(pod, once)) is not None]
    makers = [*newest.values(), *(one for one in children.deployments if not available(one))]
    troubles += [found for one in makers if (found := _of(one, told)) is not None]
    troubles += [found for job in newest.values() if (found := queued(job)) is not None]
    leaving = {label(pod, STEP) for pod in children.pods_for("stage") if not ended(pod) and not lost(pod, now)}
    going = [job for job in children.jobs if "deletionTimestamp" in job["metadata"] and not over(job)]
    leaving |= {
        name for job in going if (name := label(job, STEP)) in records and _attempt(job) > records[name].attempt
    }
    attempts = {name: _attempted(newest[name], children, told) for name, one in records.items() if one.running}
    holding = any(is_placed(pod) and not ended(pod) for pod in children.pods)
    places = {one.name: _place(one.place) for one in status.steps if one.place}
    observed = Observed(
        done, records, servers, leaving=leaving, attempts=attempts, places={} if retry else places, holding=holding
    )
    return Seen(observed, summaries, troubles[0] if troubles else None)


def _done(step: StepStatus) -> Done:
    tokens = step.tokens.model_dump() if step.tokens else {}
    return done_with(step.name, step.attempt, step.counts, tokens)


def _record(step: StepStatus, now: float, retry: bool) -> Record:
    """The record that a status keeps. A step that ran and whose Job is gone is begun again under the same number."""
    furthest = step.furthest if step.failures else -1
    match step.state:
        case "Failed" if retry:
            return Record(step.attempt, committed=step.committed)
        case "Retrying" | "Failed":
            unsaid = Exit.INFRASTRUCTURE if step.state == "Retrying" else Exit.BUG
            code = int(unsaid) if step.exit_code is None else step.exit_code
            at = step.finished_at.timestamp() if step.finished_at else now
            end = Ending(code, step.message, at, step.reason or "")
            return Record(step.attempt, False, step.failures, furthest, end, step.committed)
        case _:
            return Record(max(0, step.attempt - 1), False, step.failures, furthest, None, step.committed)


def _place(place: PlaceStatus) -> Place:
    since, until = (at.timestamp() if at else None for at in (place.since, place.until))
    return Place(place.alone, since, place.given_back, until, place.message)


def _attempt(body: Body) -> int:
    return int(label(body, ATTEMPT) or 0)


def held(job: Body, now: float) -> bool:
    """Whether a Job should be gone long ago and is not: a pod of it, or a finalizer, keeps its name taken."""
    at = held_at(job)
    return at is not None and now >= at


def held_at(job: Body) -> float | None:
    """When a Job that is being deleted should be gone at the latest."""
    deleted = job["metadata"].get("deletionTimestamp")
    return None if deleted is None or over(job) else seconds(deleted) + GRACE_SECONDS + LOST_SECONDS


def forsaken(children: Children, now: float) -> list[Body]:
    """The Jobs that a lost pod keeps from ending."""
    return [job for job in children.unfinished if any(lost(pod, now) for pod in children.pods_of(job))]


def ended_shards(children: Children) -> list[tuple[str, Progress]]:
    """How far the workers came that have done their share of a step whose Job still runs, with the step of each."""
    found = []
    for job in children.unfinished:
        done = [pod for pod in children.pods_of(job) if pod.get("status", {}).get("phase") == "Succeeded"]
        found += [(label(job, STEP), one.progress) for one in summaries_of(done) if one.progress is not None]
    return found


def _of(body: Body, told: Mapping[str, Trouble]) -> Trouble | None:
    return told.get(body["metadata"].get("uid", ""))


def available(deployment: Body) -> bool:
    return bool(condition(deployment, "Available") and deployment["status"].get("readyReplicas"))


def _server(role: str, children: Children, told: Mapping[str, Trouble]) -> PodsState:
    named = [one for one in children.deployments if label(one, ROLE) == role]
    if not named:
        return PodsState(False, f"the {role} is being started")
    if available(named[0]):
        return PodsState(True)
    once, pods = rolled_out(named[0]), children.pods_for(role)
    for found in (*(_of(pod, told) or trouble(pod, once) for pod in pods), _of(named[0], told)):
        if found is not None:
            return PodsState(False, found.message, found.reason)
    return PodsState(False, f"the {role} is loading", placed=any(map(is_placed, pods)))


def _attempted(job: Body, children: Children, told: Mapping[str, Trouble]) -> PodsState:
    """Ready when all of its pods have nodes and nothing holds them up."""
    pods = children.pods_of(job)
    troubles = [_of(pod, told) or trouble(pod) for pod in pods]
    going = [pod for pod, found in zip(pods, troubles, strict=True) if is_placed(pod) and found is None]
    if len(going) >= job["spec"].get("parallelism", 1):
        return PodsState(True)
    found = next((one for one in (*troubles, _of(job, told), queued(job)) if one is not None), None)
    message, reason = (found.message, found.reason) if found else ("its pods have no nodes yet", "")
    return PodsState(False, message, reason, placed=bool(going))


def is_placed(pod: Body) -> bool:
    """Whether a node has, or had, the pod."""
    return bool(pod["spec"].get("nodeName")) or pod.get("status", {}).get("phase") in ("Running", "Succeeded", "Failed")


def queued(job: Body) -> Trouble | None:
    """A Job that its queue has not admitted, or has put back."""
    name = job["metadata"].get("labels", {}).get(QUEUE)
    if not name or not job["spec"].get("suspend") or condition(job, "Complete") or condition(job, "Failed"):
        return None
    return Trouble("Queued", f"step {label(job, STEP)} waits in queue {name} for its quota")


def rolled_out(deployment: Body) -> bool:
    """Whether a pod of its present template has ever been ready."""
    progressing = condition(deployment, "Progressing") or {}
    return progressing.get("reason") == "NewReplicaSetAvailable"


def trouble(pod: Body, answered: bool = False) -> Trouble | None:
    """What keeps a pod from running, if anything does; whether its server has ever ``answered``."""
    status = pod.get("status", {})
    if ended(pod) or pod["metadata"].get("deletionTimestamp") or condition(pod, "Ready"):
        return None
    for one in status.get("conditions") or ():
        if one["type"] == "PodScheduled" and one["status"] == "False" and one.get("reason") == "Unschedulable":
            return Trouble("InsufficientCapacity", one.get("message", ""))
        if one["type"] == "PodScheduled" and one["status"] == "False" and one.get("reason") == "SchedulingGated":
            return Trouble("Queued", one.get("message", ""))
    for kind in ("initContainerStatuses", "containerStatuses"):
        for one in status.get(kind) or ():
            waiting = one.get("state", {}).get("waiting") or {}
            reason, message = waiting.get("reason", ""), waiting.get("message", "")
            if reason in ("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull"):
                return Trouble("ImagePullFailed", message)
            if reason == "CreateContainerConfigError":
                return Trouble("SecretMissing" if "secret" in message else "ConfigurationMissing", message)
            if last := crash(pod, one):
                return _crashed(label(pod, ROLE), one["name"], last, answered)
    return None


def crash(pod: Body, container: Body) -> Body | None:
    """How a container last ended that ends again and again, or that refused its arguments; None if it does neither."""
    state, last = container.get("state", {}), container.get("lastState", {}).get("terminated")
    if state.get("waiting", {}).get("reason") == "CrashLoopBackOff":
        return last or {"message": state["waiting"].get("message", "")}
    if pod.get("spec", {}).get("restartPolicy", "Always") != "Always":
        return None
    if (now := state.get("terminated")) and now["exitCode"]:
        return dict(now)
    refused = last is not None and last["exitCode"] == USAGE and container["name"] == SERVER
    return last if last and last["exitCode"] and (refused or container.get("restartCount", 0) >= 2) else None


def _crashed(role: str, name: str, last: Body, answered: bool) -> Trouble:
    words, code = str(last.get("message", "")).strip()[-600:], last.get("exitCode")
    if code == USAGE and name == SERVER and not answered:
        return Trouble(
            "ServingArgsRefused",
            f"spec.{role}.serving.args: vLLM refuses its arguments (exit code {code}); mend or remove them: {words}",
        )
    if last.get("reason") == "OOMKilled":
        field = f"; raise spec.resources.{role}.limits.memory" if name == SERVER else ""
        return Trouble("CrashLoop", f"container {name} was out of memory (OOMKilled){field}: {words}")
    how = "" if code is None else f" ended with exit code {code}"
    return Trouble("CrashLoop", f"container {name}{how}: {words}")
