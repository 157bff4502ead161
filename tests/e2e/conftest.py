from collections.abc import Iterator

import pytest
from tests.cluster import images, node
from tests.cluster.node import Cluster


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A real cluster with one node that has the worker image. Share it by namespaces."""
    archive = images.worker()
    with node.cluster() as whole:
        whole.import_image(archive)
        yield whole
