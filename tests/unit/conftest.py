"""What the tests of acting, localizing and mentoring share: what became of every snapshot."""

import pytest
from tests.unit.interpreter import Tally


@pytest.fixture
def tally() -> Tally:
    return Tally()
