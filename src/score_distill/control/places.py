"""How a step comes by nodes and GPUs: what is given up for it, and when a run lets go of all and tries again. Pure."""

import hashlib
from collections.abc import Collection
from dataclasses import dataclass, replace

UNPLACED = frozenset({"InsufficientCapacity", "Queued", "QuotaExceeded"})
"""Reasons for which pods have no place yet, and may get one when others give theirs back."""
QUEUE_SECONDS = 30.0
"""What a queue gets to admit a step before that is taken for a want of room."""


@dataclass(frozen=True)
class PodsState:
    """How the pods of a server, or of an attempt, fare. ``placed``: one has a node, and nothing holds it up.

    ``message`` says why they are not ready, ``reason`` in one word where there is one.
    """

    ready: bool
    message: str = ""
    reason: str = ""
    placed: bool = False


@dataclass(frozen=True)
class Place:
    """What is known of a step's place from pass to pass. ``since`` it waits for one; None while it does not.

    ``alone``: servers of later steps that hold GPUs are down until it has ended. ``given_back``: so often its run let
    go of all, last for the reason in ``message``, to ask for nothing ``until`` then.
    """

    alone: bool = False
    since: float | None = None
    given_back: int = 0
    until: float | None = None
    message: str = ""

    def next(
        self, waiting: Collection[PodsState], *, holding: bool, deadline: float | None, now: float, seed: str
    ) -> "Place":
        """After a look at what the step waits for; ``holding``: the run has something that others could use.

        A run that has nothing, and waits in a queue, keeps its turn; one of which some pods work keeps these.
        """
        if self.until is not None and now < self.until:
            return self
        place = replace(self, until=None, message="")
        reasons = {one.reason for one in waiting}
        if not waiting or (reasons == {"Queued"} and not holding) or (deadline is None and not reasons & UNPLACED):
            return replace(place, since=None)
        since = now if self.since is None else self.since
        if deadline is None or now < since + deadline or all(one.placed for one in waiting):
            return replace(place, since=since)
        times = self.given_back + 1
        words = next((one.message for one in waiting if one.reason), "") or next(one.message for one in waiting)
        return replace(place, since=None, given_back=times, until=now + rest(seed, times), message=words)

    def beside(self, waiting: Collection[PodsState], now: float) -> "Place":
        """After a look at what the step waits for while servers of later steps are up."""
        due = self.release(waiting)
        return replace(self, alone=self.alone or (due is not None and now >= due))

    def release(self, waiting: Collection[PodsState]) -> float | None:
        """When the servers of later steps are to be taken down."""
        reasons = {one.reason for one in waiting} & UNPLACED
        if self.alone or self.since is None or not reasons:
            return None
        return self.since + (QUEUE_SECONDS if reasons == {"Queued"} else 0.0)


def rest(seed: str, times: int) -> float:
    """Seconds for which a run asks for nothing after it gave back: 15 to 900, of another length for each of them."""
    share = int.from_bytes(hashlib.sha256(f"{seed}/{times}".encode()).digest()[:4], "big") / 2**32
    return float(min(600.0, 30.0 * 2 ** min(times - 1, 10)) * (0.5 + share))
