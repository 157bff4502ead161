"""One operator acts at a time: the one that holds the Lease. Another watches, and acts when the Lease is free."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from kubernetes.client import ApiClient, CoordinationV1Api, V1Lease, V1LeaseSpec, V1ObjectMeta
from kubernetes.client.exceptions import ApiException
from urllib3.exceptions import HTTPError

from score_distill.executors.kubernetes.fencing import Term, boottime

NAME = "score-operator"
REQUEST_SECONDS = 3.0


@dataclass(frozen=True)
class Terms:
    """Seconds. Whoever has not renewed for ``duration`` has lost the Lease.

    It writes no more after ``renew``, which leaves its last request the rest of the time to arrive.
    """

    duration: int = 20
    renew: int = 15
    retry: int = 3


@dataclass(frozen=True)
class Sight:
    """The version of a Lease, and since when it is known."""

    version: str
    since: float


def may_take(lease: V1Lease, identity: str, seen: Sight, now: float) -> bool:
    """It is our own, nobody's, or has not changed for as long as its holder asked for: no two clocks are compared."""
    spec = lease.spec or V1LeaseSpec()
    return (
        not spec.holder_identity
        or spec.holder_identity == identity
        or now - seen.since > (spec.lease_duration_seconds or 0)
    )


class Candidate:
    """One operator that would hold the Lease; ``term`` is how long it may write."""

    def __init__(
        self,
        api: ApiClient,
        namespace: str,
        identity: str,
        terms: Terms = Terms(),
        clock: Callable[[], float] = boottime,
    ) -> None:
        self.term = Term(terms.renew, clock)
        self._leases, self._namespace, self._identity = CoordinationV1Api(api), namespace, identity
        self._terms, self._clock = terms, clock
        self._seen: Sight | None = None
        self._turn, self._over = threading.Lock(), threading.Event()

    def attempt(self) -> bool:
        """Try once to take or to renew the Lease; a server that does not answer is a failed try."""
        with self._turn:
            try:
                return not self._over.is_set() and self._attempt()
            except (ApiException, HTTPError):
                return False

    def give_up(self) -> None:
        """Write no more, and leave the Lease to whoever wants it, at once."""
        self.term.end()
        self._over.set()
        with self._turn:
            try:
                lease = self._read()
                if lease is not None and lease.spec and lease.spec.holder_identity == self._identity:
                    self._replace(lease, None)
            except (ApiException, HTTPError):
                pass

    def campaign(self, leads: Callable[[], object], lost: Callable[[], object]) -> None:
        """Call ``leads`` once the Lease is held, and ``lost`` when it no longer is; both in a thread of their own."""

        def run() -> None:
            try:
                while not self.attempt():
                    time.sleep(self._terms.retry)
                leads()
                while self.attempt() or self.term.holds():
                    time.sleep(self._terms.retry)
            finally:
                if not self._over.is_set():
                    lost()

        threading.Thread(target=run, name="lease", daemon=True).start()

    def _attempt(self) -> bool:
        lease, sent = self._read(), self._clock()
        if lease is None:
            metadata = V1ObjectMeta(name=NAME)
            body = V1Lease(metadata=metadata, spec=self._spec(V1LeaseSpec(), self._identity))
            self._leases.create_namespaced_lease(self._namespace, body, _request_timeout=REQUEST_SECONDS)
        else:
            version = str(lease.metadata and lease.metadata.resource_version)
            if self._seen is None or self._seen.version != version:
                self._seen = Sight(version, sent)
            if not may_take(lease, self._identity, self._seen, sent):
                return False
            if self._clock() - sent > self._terms.retry:
                return False
            self._replace(lease, self._identity)
        self.term.renewed(sent)
        return True

    def _read(self) -> V1Lease | None:
        try:
            return self._leases.read_namespaced_lease(NAME, self._namespace, _request_timeout=REQUEST_SECONDS)
        except ApiException as error:
            if error.status == 404:
                return None
            raise

    def _replace(self, lease: V1Lease, holder: str | None) -> None:
        """Over the version that was read alone: of two that try, one is refused."""
        lease.spec = self._spec(lease.spec or V1LeaseSpec(), holder)
        self._leases.replace_namespaced_lease(NAME, self._namespace, lease, _request_timeout=REQUEST_SECONDS)

    def _spec(self, before: V1LeaseSpec, holder: str | None) -> V1LeaseSpec:
        now = datetime.now(UTC)
        same = before.holder_identity == holder
        return V1LeaseSpec(
            holder_identity=holder,
            lease_duration_seconds=self._terms.duration,
            acquire_time=before.acquire_time if same else now,
            renew_time=now,
            lease_transitions=(before.lease_transitions or 0) + (holder is not None and not same),
        )
