"""What the children of a run say, in the policy's words. Pure: bodies of objects in, observations out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from score_distill.api import Status, StepStatus
from score_distill.contract import Progress, Summary
from score_distill.control.plan import Done, done_with
from score_distill.control.policy import Ending, Observed, Record, ServerState
from score_distill.control.status import reason_of
from score_distill.errors import Exit
from score_distill.executors.kubernetes.endings import condition, ended, ending, lost, summary, told
from score_distill.executors.kubernetes.names import ATTEMPT, QUEUE, ROLE, STEP, Body, owned


@dataclass(frozen=True)
class Children:
    """The objects of one run that a cache or the API server has."""

    jobs: Sequence[Body] = ()
    pods: Sequence[Body] = ()
    deployments: Sequence[Body] = ()

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
) -> Seen:
    """``retry`` forgets failures that were final: the spec was changed since. An ``endpoint`` is no teacher of ours."""
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
        if job and condition(job, "Complete"):
            said = summary(children.pods_of(job)) or Summary(step=name, succeeded=True)
            summaries[name] = said
            done[name] = done_with(name, attempt, said.counts, said.tokens)
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
            records[name] = record
    servers = {"sandbox": ServerState(True)}
    for role in ("teacher", "student"):
        servers[role] = ServerState(True) if role == "teacher" and endpoint else _server(role, children)
    waiting = [pod for pod in children.pods if pod.get("status", {}).get("phase") == "Pending"]
    troubles = [found for pod in waiting if (found := trouble(pod)) is not None]
    troubles += [found for job in newest.values() if (found := queued(job)) is not None]
    leaving = {label(pod, STEP) for pod in children.pods_for("stage") if not ended(pod) and not lost(pod, now)}
    observed = Observed(done, records, servers, leaving=leaving)
    return Seen(observed, summaries, troubles[0] if troubles else None)


def _done(step: StepStatus) -> Done:
    tokens = step.tokens.model_dump() if step.tokens else {}
    return done_with(step.name, step.attempt, step.counts, tokens)


def _record(step: StepStatus, now: float, retry: bool) -> Record:
    """The record that a status keeps. A step that ran and whose Job is gone is begun again under the same number."""
    furthest = step.furthest if step.failures else -1
    match step.state:
        case "Retrying":
            at = step.finished_at.timestamp() if step.finished_at else now
            end = Ending(int(Exit.INFRASTRUCTURE), step.message, at, step.reason or "")
            return Record(step.attempt, False, step.failures, furthest, end)
        case "Failed" if not retry:
            code = next((code for code in Exit if step.message.startswith(f"{reason_of(code)}: ")), Exit.BUG)
            message = step.message.partition(": ")[2]
            return Record(
                step.attempt, False, step.failures, furthest, Ending(int(code), message, now, step.reason or "")
            )
        case "Failed":
            return Record(step.attempt)
        case _:
            return Record(max(0, step.attempt - 1), False, step.failures, furthest)


def _attempt(body: Body) -> int:
    return int(label(body, ATTEMPT) or 0)


def forsaken(children: Children, now: float) -> list[Body]:
    """The Jobs that a lost pod keeps from ending."""
    return [job for job in children.unfinished if any(lost(pod, now) for pod in children.pods_of(job))]


def ended_shards(children: Children) -> list[tuple[str, Progress]]:
    """How far the workers came that have done their share of a step whose Job still runs, with the step of each."""
    found = []
    for job in children.unfinished:
        done = [pod for pod in children.pods_of(job) if pod.get("status", {}).get("phase") == "Succeeded"]
        found += [(label(job, STEP), one.progress) for one in told(done) if one.progress is not None]
    return found


def _server(role: str, children: Children) -> ServerState:
    named = [one for one in children.deployments if label(one, ROLE) == role]
    if not named:
        return ServerState(False, f"the {role} is being started")
    if condition(named[0], "Available") and named[0]["status"].get("readyReplicas"):
        return ServerState(True)
    for pod in children.pods_for(role):
        if found := trouble(pod):
            return ServerState(False, f"{found.reason}: {found.message}")
    return ServerState(False, f"the {role} is loading")


def queued(job: Body) -> Trouble | None:
    """A Job that its queue has not admitted, or has put back."""
    name = job["metadata"].get("labels", {}).get(QUEUE)
    if not name or not job["spec"].get("suspend") or condition(job, "Complete") or condition(job, "Failed"):
        return None
    return Trouble("Queued", f"step {label(job, STEP)} waits in queue {name} for its quota")


def trouble(pod: Body) -> Trouble | None:
    """What keeps a pod from running, if anything does."""
    status = pod.get("status", {})
    for one in status.get("conditions") or ():
        if one["type"] == "PodScheduled" and one["status"] == "False" and one.get("reason") == "Unschedulable":
            return Trouble("InsufficientCapacity", one.get("message", ""))
    for kind in ("initContainerStatuses", "containerStatuses"):
        for one in status.get(kind) or ():
            waiting = one.get("state", {}).get("waiting") or {}
            reason, message = waiting.get("reason", ""), waiting.get("message", "")
            if reason in ("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull"):
                return Trouble("ImagePullFailed", message)
            if reason == "CreateContainerConfigError":
                return Trouble("SecretMissing" if "secret" in message else "ConfigurationMissing", message)
            if reason == "CrashLoopBackOff":
                last = one.get("lastState", {}).get("terminated") or {}
                return Trouble("CrashLoop", f"container {one['name']}: {str(last.get('message', message))[-300:]}")
    return None
