"""One operator acts at a time: the one that holds the Lease. Another watches, and acts when the Lease is free."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from kubernetes.client import ApiClient, CoordinationV1Api
from kubernetes.client.exceptions import ApiException
from kubernetes.leaderelection.electionconfig import Config
from kubernetes.leaderelection.leaderelection import LeaderElection
from kubernetes.leaderelection.resourcelock.leaselock import LeaseLock
from urllib3.exceptions import HTTPError

NAME = "score-operator"
REQUEST_SECONDS = 3.0


@dataclass(frozen=True)
class Terms:
    """Seconds. Whoever has not renewed for ``duration`` has lost; it gives up itself after ``renew``."""

    duration: int = 20
    renew: int = 15
    retry: int = 3


class Lock(LeaseLock):
    """kubernetes' Lease lock, with a limit on every request, for which an unreachable server is a failed try."""

    def __init__(self, api: ApiClient, namespace: str, identity: str) -> None:
        super().__init__(NAME, namespace, identity)  # type: ignore[no-untyped-call]
        self.api_instance = CoordinationV1Api(api)
        for verb in ("read", "create", "replace"):
            name = f"{verb}_namespaced_lease"
            setattr(
                self.api_instance, name, partial(getattr(self.api_instance, name), _request_timeout=REQUEST_SECONDS)
            )

    def get(self, name: str, namespace: str) -> tuple[bool, Any]:
        try:
            return super().get(name, namespace)  # type: ignore[no-any-return, no-untyped-call]
        except HTTPError as error:
            return False, ApiException(status=0, reason=str(error))

    def create(self, name: str, namespace: str, election_record: Any) -> bool:
        try:
            return bool(super().create(name, namespace, election_record))  # type: ignore[no-untyped-call]
        except HTTPError:
            return False

    def update(self, name: str, namespace: str, updated_record: Any) -> bool:
        try:
            return bool(super().update(name, namespace, updated_record))  # type: ignore[no-untyped-call]
        except HTTPError:
            return False


def campaign(lock: Lock, leads: Callable[[], object], lost: Callable[[], object], terms: Terms = Terms()) -> None:
    """Call ``leads`` once the Lease is held, and ``lost`` when it no longer is; both in a thread of their own."""
    config = Config(lock, terms.duration, terms.renew, terms.retry, leads, lambda: None)

    def run() -> None:
        try:
            LeaderElection(config).run()
        finally:
            lost()

    threading.Thread(target=run, name="lease", daemon=True).start()
