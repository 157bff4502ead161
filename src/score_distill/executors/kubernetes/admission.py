"""Whether the quotas and ranges of a namespace leave room for a pod: by their numbers, as admission counts. Pure."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal

from kubernetes.utils.quantity import parse_quantity

from score_distill.executors.kubernetes.names import Body

Amounts = Mapping[str, Decimal]
NATIVE = ("cpu", "memory", "ephemeral-storage")
MUST_BE_SAID = {f"{kind}{name}" for kind in ("", "requests.", "limits.") for name in ("cpu", "memory")}
"""Of what a quota counts, that which every container has to give."""


@dataclass(frozen=True)
class Sized:
    """What a container, or a pod, asks for and may use."""

    requests: Amounts
    limits: Amounts

    def counted(self) -> Amounts:
        """Under the names by which quotas count it."""
        native = {name: value for name, value in self.requests.items() if name in NATIVE}
        asked = {f"requests.{name}": value for name, value in self.requests.items()}
        return native | asked | {f"limits.{name}": value for name, value in self.limits.items()}


def fits(pod: Body, quotas: Iterable[Body], ranges: Iterable[Body]) -> bool:
    """Whether one more pod of that spec is within all of them."""
    bounds = [one for found in ranges for one in found["spec"].get("limits") or ()]
    containers = [_sized(one, bounds) for one in _all(pod)]
    whole = _together(pod, bounds)
    return _within(containers, whole, bounds) and not any(
        _exceeds(found, containers, whole) for found in quotas if _covers(found, pod, whole)
    )


def room_for(kind: str, quotas: Iterable[Body]) -> bool:
    """Whether one more object may be, counted by itself; ``kind`` as in ``jobs.batch``, or ``secrets``."""
    names = {f"count/{kind}", kind}
    return not any(_more(found, dict.fromkeys(names, Decimal(1))) for found in quotas)


def _all(pod: Body) -> Iterator[Body]:
    yield from pod.get("initContainers") or ()
    yield from pod.get("containers") or ()


def _sized(container: Body, bounds: Iterable[Body]) -> Sized:
    """With the defaults that Kubernetes and the namespace's ranges give it."""
    resources = container.get("resources") or {}
    limits = dict(resources.get("limits") or {})
    requests = limits | dict(resources.get("requests") or {})
    for one in bounds:
        if one["type"] == "Container":
            limits = dict(one.get("default") or {}) | limits
            requests = dict(one.get("defaultRequest") or {}) | requests
    return Sized(_parsed(requests), _parsed(limits))


def _together(pod: Body, bounds: list[Body]) -> Sized:
    """Of a pod: its containers and sidecars run at once, its other first containers one by one beside the sidecars."""
    sizes = [(one, _sized(one, bounds)) for one in pod.get("initContainers") or ()]
    main = [_sized(one, bounds) for one in pod.get("containers") or ()]
    return Sized(*(_most(sizes, main, kind) for kind in ("requests", "limits")))


def _most(first: Iterable[tuple[Body, Sized]], main: Iterable[Sized], kind: str) -> Amounts:
    beside: Amounts = {}
    peak: Amounts = {}
    for container, size in first:
        now = _sum(beside, getattr(size, kind))
        peak = {name: max(peak.get(name, Decimal(0)), now.get(name, Decimal(0))) for name in {*peak, *now}}
        beside = now if container.get("restartPolicy") == "Always" else beside
    for size in main:
        beside = _sum(beside, getattr(size, kind))
    return {name: max(peak.get(name, Decimal(0)), beside.get(name, Decimal(0))) for name in {*peak, *beside}}


def _sum(one: Amounts, other: Amounts) -> Amounts:
    return {name: one.get(name, Decimal(0)) + other.get(name, Decimal(0)) for name in {*one, *other}}


def _parsed(amounts: Mapping[str, str]) -> dict[str, Decimal]:
    return {name: parse_quantity(value) for name, value in amounts.items()}


def _exceeds(quota: Body, containers: Iterable[Sized], whole: Sized) -> bool:
    hard = (quota.get("status") or {}).get("hard") or {}
    unsaid = any((hard.keys() & MUST_BE_SAID) - one.counted().keys() for one in containers)
    one = Decimal(1)
    return unsaid or _more(quota, {**whole.counted(), "pods": one, "count/pods": one})


def _more(quota: Body, wanted: Amounts) -> bool:
    """Whether so much more would be too much."""
    status = quota.get("status") or {}
    hard, used = (_parsed(status.get(kind) or {}) for kind in ("hard", "used"))
    return any(
        value and name in hard and used.get(name, Decimal(0)) + value > hard[name] for name, value in wanted.items()
    )


def _covers(quota: Body, pod: Body, whole: Sized) -> bool:
    """Whether a quota counts that pod: by its scopes, all of which must hold."""
    spec = quota["spec"]
    scopes = [{"scopeName": name, "operator": "Exists"} for name in spec.get("scopes") or ()]
    scopes += (spec.get("scopeSelector") or {}).get("matchExpressions") or ()
    return all(_matches(one, pod, whole) for one in scopes)


def _matches(scope: Body, pod: Body, whole: Sized) -> bool:
    ends, best_effort = "activeDeadlineSeconds" in pod, not whole.requests and not whole.limits
    match scope["scopeName"]:
        case "Terminating":
            return ends
        case "NotTerminating":
            return not ends
        case "BestEffort":
            return best_effort
        case "NotBestEffort":
            return not best_effort
        case "PriorityClass":
            name, values = pod.get("priorityClassName", ""), scope.get("values") or ()
            asked = {"Exists": bool(name), "DoesNotExist": not name, "In": name in values, "NotIn": name not in values}
            return asked.get(scope["operator"], False)
        case _:
            return False


def _within(containers: Iterable[Sized], whole: Sized, bounds: Iterable[Body]) -> bool:
    for one in bounds:
        sizes = {"Container": containers, "Pod": (whole,)}.get(one["type"], ())
        least, most, ratio = (_parsed(one.get(kind) or {}) for kind in ("min", "max", "maxLimitRequestRatio"))
        for size in sizes:
            asked, may = size.requests, size.limits
            if any(name not in asked or asked[name] < value for name, value in least.items()):
                return False
            if any(name not in may or may[name] > value for name, value in most.items()):
                return False
            if any(not asked.get(name) or may.get(name, 0) / asked[name] > value for name, value in ratio.items()):
                return False
    return True
