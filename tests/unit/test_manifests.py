"""What the API server refuses is refused here too, so that a manifest means the same on one machine."""

from typing import Any

import pytest
from tests.manifests import BETWEEN_FIELDS, ONLY_IN_A_CLUSTER, UNKNOWN, changed, good, out_of_bounds

from score_distill.manifest import ManifestError, parse

BAD = [*BETWEEN_FIELDS, *out_of_bounds()]


def test_the_good_one_is_good() -> None:
    parse(good())


@pytest.mark.parametrize(("path", "value"), [(path, value) for path, value, _ in BAD])
def test_a_faulty_manifest_is_refused(path: str, value: Any) -> None:
    with pytest.raises(ManifestError):
        parse(changed(path, value))


@pytest.mark.parametrize("path", UNKNOWN)
def test_an_unknown_field_is_refused(path: str) -> None:
    with pytest.raises(ManifestError, match="unknown field"):
        parse(changed(path, "x"))


@pytest.mark.parametrize(("path", "value"), [(path, value) for path, value, _ in ONLY_IN_A_CLUSTER])
def test_one_machine_takes_what_only_a_cluster_cannot(path: str, value: Any) -> None:
    parse(changed(path, value))
