"""Whether watches bring what happens, and when they are asked."""

import logging
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace

import pytest
from kubernetes.client import ApiClient, Configuration
from tests.unit.kubernetes.world import SETTINGS, run

from score_distill.api import KIND
from score_distill.executors.kubernetes.cluster import Cluster
from score_distill.executors.kubernetes.freshness import Freshness
from score_distill.executors.kubernetes.known import KINDS
from score_distill.executors.kubernetes.passes import WHOLE_CHECKS, Operator


def test_what_a_watch_is_about_to_bring_is_not_late() -> None:
    freshness = Freshness()
    assert freshness.late({"a": "2", "b": "7"}, {"a": "1"}) == set()
    assert freshness.late({"a": "3", "b": "7"}, {"a": "2", "b": "7"}) == set()
    assert freshness.late({"a": "3", "b": "7"}, {"a": "3", "b": "7"}) == set()


def test_a_change_an_object_and_an_end_that_the_watch_never_brings_are_late_at_the_second_look() -> None:
    freshness = Freshness()
    listed, seen = {"changed": "2", "made": "5"}, {"changed": "1", "deleted": "4"}
    assert freshness.late(listed, seen) == set()
    assert freshness.late(listed | {"changed": "3"}, seen) == {"changed", "made", "deleted"}


def test_a_watch_that_catches_up_is_well_again() -> None:
    freshness = Freshness()
    freshness.late({"a": "2"}, {"a": "1"})
    assert freshness.late({"a": "2"}, {"a": "1"}) == {"a"}
    assert freshness.late({"a": "2"}, {"a": "2"}) == set()


class Listing(Cluster):
    """It notes of which kinds it was asked, and has none of any."""

    def __init__(self) -> None:
        super().__init__(ApiClient(Configuration(host="http://127.0.0.1:1")))
        self.kinds: list[str] = []

    def versions(self, kind: str, namespaces: Iterable[str], label: str = "") -> dict[str, str]:
        self.kinds.append(kind)
        return {}


@pytest.mark.parametrize("namespaces", [(), ("team", "other")])
async def test_only_the_watch_of_a_whole_cluster_that_has_just_brought_something_is_not_checked(
    namespaces: tuple[str, ...],
) -> None:
    cluster, body = Listing(), run()
    body["metadata"]["resourceVersion"] = "1"
    operator = Operator(cluster, replace(SETTINGS, namespaces=namespaces), logging.getLogger("test"))
    operator.changed(KIND, body)
    for _ in range(WHOLE_CHECKS):
        await operator.check_watches()
    asked = Counter(cluster.kinds)
    assert asked.pop(KIND) == (WHOLE_CHECKS if namespaces else 1)
    assert asked == dict.fromkeys({*KINDS} - {KIND}, WHOLE_CHECKS)
