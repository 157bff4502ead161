"""No write to the API server leaves an operator whose Lease was not valid when it was sent."""

import time
from collections.abc import Callable
from typing import Any

from kubernetes.client import ApiClient

from score_distill.errors import Infrastructure


class NotLeading(Infrastructure):
    """This operator cannot show that it holds the Lease, so it may not write."""


def boottime() -> float:
    """Seconds that go on while the process is stopped or the machine sleeps, whatever is done to its wall clock."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Term:
    """How long an operator may write: ``seconds`` from when it sent the last renewal of its Lease that succeeded."""

    def __init__(self, seconds: float, clock: Callable[[], float] = boottime) -> None:
        self._seconds, self._clock = seconds, clock
        self._until, self._over = -float("inf"), False

    def renewed(self, sent: float) -> None:
        self._until = sent + self._seconds

    def end(self) -> None:
        """For good: no renewal that is still under way brings it back."""
        self._over = True

    def holds(self) -> bool:
        return not self._over and self._clock() < self._until

    def demand(self) -> None:
        if not self.holds():
            raise NotLeading("the Lease is not held, or was not renewed in time: nothing is written")


def fenced(client: ApiClient, demand: Callable[[], None]) -> ApiClient:
    """The client, which calls ``demand`` before each part of every request but a GET that goes to its connection.

    So late, because a process may be stopped at any instant, and a request that found no connection is sent again.
    """

    def over(pool: Any) -> Any:
        class Connection(pool.ConnectionCls):  # type: ignore[misc]
            writes = False

            def request(self, method: str, *args: Any, **kwargs: Any) -> None:
                self.writes = method != "GET"
                super().request(method, *args, **kwargs)

            def send(self, data: Any) -> None:
                if self.sock is None:
                    self.connect()
                if self.writes:
                    demand()
                super().send(data)

        return type(pool.__name__, (pool,), {"ConnectionCls": Connection})

    pools = client.rest_client.pool_manager
    pools.pool_classes_by_scheme = {scheme: over(pool) for scheme, pool in pools.pool_classes_by_scheme.items()}
    return client
