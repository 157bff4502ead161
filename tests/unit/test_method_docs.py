"""docs/method.md names tests that exist."""

import re
from pathlib import Path

TESTS = Path(__file__).parents[1]
PAGE = (TESTS.parent / "docs" / "method.md").read_text("utf-8")


def test_every_defect_of_the_reference_has_tests_that_exist() -> None:
    rows = re.findall(r"^\| (\d+) \|.*\| (.*) \|$", PAGE, re.MULTILINE)
    assert [int(number) for number, _ in rows] == list(range(1, 34))
    named = [(number, *one) for number, tests in rows for one in re.findall(r"`(test_\w+\.py)::(test_\w+)`", tests)]
    assert {number for number, *_ in named} == {number for number, _ in rows}
    missing = [one for one in named if not any(f"def {one[2]}(" in path.read_text() for path in TESTS.rglob(one[1]))]
    assert missing == []
