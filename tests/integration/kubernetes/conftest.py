from collections.abc import Iterator

import pytest
from tests.cluster.control_plane import ControlPlane
from tests.cluster.control_plane import control_plane as start_control_plane


@pytest.fixture(scope="session")
def control_plane() -> Iterator[ControlPlane]:
    """A real API server with RBAC and all controllers, but no node: pods stay pending. Share it by namespaces."""
    with start_control_plane() as plane:
        yield plane
