from score_distill.executors.kubernetes.freshness import Freshness


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
