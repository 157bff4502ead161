"""Two who would hold one Lease of a real API server, by a clock that the test turns."""

import uuid
from collections.abc import Callable

import pytest
from kubernetes import client
from tests.cluster.control_plane import ControlPlane

from score_distill.executors.kubernetes.lease import Candidate


class Two:
    def __init__(self, plane: ControlPlane) -> None:
        self.now, self.namespace = 1000.0, f"lease-{uuid.uuid4().hex[:8]}"
        client.CoreV1Api(plane.client()).create_namespace({"metadata": {"name": self.namespace}})
        self.meanwhile = list[Callable[[], None]]()
        self.a = Candidate(plane.client(), self.namespace, "a", clock=self._slow)
        self.b = Candidate(plane.client(), self.namespace, "b", clock=lambda: self.now)
        self.leases = client.CoordinationV1Api(plane.client())

    def _slow(self) -> float:
        """The first looks at its clock when it has read the Lease: what happens meanwhile happens then."""
        if self.meanwhile:
            self.meanwhile.pop()()
        return self.now

    def spec(self) -> client.V1LeaseSpec:
        return self.leases.read_namespaced_lease("score-operator", self.namespace).spec

    def writers(self) -> list[bool]:
        return [self.a.term.holds(), self.b.term.holds()]


@pytest.fixture
def two(control_plane: ControlPlane) -> Two:
    return Two(control_plane)


def test_another_takes_the_lease_when_it_ran_out_and_never_do_both_write(two: Two) -> None:
    assert [two.a.attempt(), two.b.attempt()] == [True, False]
    two.now += 14.9
    assert two.writers() == [True, False]
    two.now += 0.2
    assert two.writers() == [False, False]
    assert not two.b.attempt()
    assert two.a.attempt()
    two.now += 19
    assert not two.b.attempt(), "it saw the renewal only now, so it waits from now on"
    two.now += 20.1
    assert two.b.attempt()
    assert two.writers() == [False, True]
    assert not two.a.attempt()
    assert (two.spec().holder_identity, two.spec().lease_transitions) == ("b", 2)


def test_a_lease_that_is_given_up_is_taken_at_once_and_not_renewed_by_who_gave_it_up(two: Two) -> None:
    assert [two.a.attempt(), two.b.attempt()] == [True, False]
    two.a.give_up()
    assert two.writers() == [False, False]
    assert [two.a.attempt(), two.b.attempt()] == [False, True]
    assert two.writers() == [False, True]


def test_who_does_not_hold_the_lease_gives_nothing_up(two: Two) -> None:
    assert two.a.attempt()
    two.b.give_up()
    assert two.spec().holder_identity == "a"


def test_a_renewal_over_a_version_that_was_changed_since_is_none(two: Two) -> None:
    """As after a stop between reading and writing: the API server refuses it."""
    assert [two.a.attempt(), two.b.attempt()] == [True, False]
    two.now += 30

    def other_takes_it() -> None:
        assert two.b.attempt()

    two.meanwhile.append(other_takes_it)
    assert not two.a.attempt()
    assert two.writers() == [False, True]
