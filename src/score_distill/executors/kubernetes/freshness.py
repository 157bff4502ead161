"""Whether the operator's watches still bring what happens: one can fall silent without an error (kopf, issue 204)."""

from collections.abc import Mapping

Versions = Mapping[str, str]


class Freshness:
    """Compares what the API server has, now and then, with what the watches brought. Versions are by uid."""

    def __init__(self) -> None:
        self._late: set[tuple[str, str]] = set()

    def late(self, listed: Versions, seen: Versions) -> set[str]:
        """The uids that were behind at the last look already, and that no event has moved since."""
        behind = {(uid, seen.get(uid, "")) for uid, version in listed.items() if seen.get(uid) != version}
        behind |= {(uid, version) for uid, version in seen.items() if uid not in listed}
        still = behind & self._late
        self._late = behind
        return {uid for uid, _ in still}
