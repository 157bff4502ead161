"""What is wanted stands against what is there: defaults of the API server are no difference, changes by hand are."""

import copy
from typing import Any

import pytest
from tests.unit.kubernetes.world import NOW, SETTINGS, come_to, condition, kinds, one_pass, step

from score_distill.executors.kubernetes.reconcile import Measured, contains, reconcile

COMPARED = [
    ("the same", {"a": [1, "x"]}, {"a": [1, "x"]}, True),
    ("defaults", {"a": 1, "b": {"c": 2}}, {"a": 1}, True),
    ("defaults in a list", [{"port": 53, "protocol": "TCP"}], [{"port": 53}], True),
    ("nothing where nothing is wanted", {}, {"a": [], "b": {}, "c": None}, True),
    ("another value", {"a": 1}, {"a": 2}, False),
    ("a value where a map is wanted", {"a": None}, {"a": {"b": 1}}, False),
    ("one less", {"a": [1]}, {"a": [1, 2]}, False),
    ("one more", {"a": [1, 2]}, {"a": [1]}, False),
    ("another order", [1, 2], [2, 1], False),
    ("gone", {}, {"a": 1}, False),
    ("no and none", {"a": None}, {"a": False}, False),
]


@pytest.mark.parametrize(("there", "wanted", "same"), [row[1:] for row in COMPARED], ids=[row[0] for row in COMPARED])
def test_what_is_wanted_is_looked_for_in_what_is_there(there: Any, wanted: Any, same: bool) -> None:
    assert contains(there, wanted) is same


def test_a_run_that_this_operator_refuses_gives_everything_back_and_one_that_does_not_goes_on() -> None:
    world, body = come_to("mentor")
    refused = copy.deepcopy(body)
    refused["spec"]["fieldOfALaterVersion"] = 1
    changes = one_pass(world, refused)
    assert {one["metadata"]["name"] for one in changes.delete} == {"one-teacher", "one-student", "one-mentor-1"}
    assert (condition(refused, "Accepted")["status"], condition(refused, "Accepted")["reason"]) == ("False", "Invalid")
    assert "fieldOfALaterVersion" in condition(refused, "Accepted")["message"]
    later = reconcile(refused, world.children, Measured(), SETTINGS, NOW + 60)
    assert (later.apply, later.delete, later.status, later.again) == ((), (), refused["status"], None)

    accepted = {**refused, "spec": body["spec"]}
    assert "Deployment one-teacher" in kinds(one_pass(world, accepted, NOW + 120))
    world.ready()
    assert kinds(one_pass(world, accepted, NOW + 130))[-1] == "Job one-mentor-1"
    assert condition(accepted, "Accepted")["status"] == "True"
    assert step(accepted, "demonstrate")["state"] == "Succeeded"


def test_a_trainers_meeting_place_is_there_as_long_as_it_runs() -> None:
    world, body = come_to("sft", resources={"trainer": {"nodes": 2}})
    assert one_pass(world, body).apply == ()
    del world.services["one-sft-1"]
    assert kinds(one_pass(world, body)) == ["Service one-sft-1"]
