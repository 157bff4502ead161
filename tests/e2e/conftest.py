from collections.abc import Iterator

import pytest
from tests.cluster import images, node
from tests.cluster.node import Cluster


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A real cluster with one node that has the images. Share it by namespaces."""
    archives = images.worker(), images.operator(tmp_path_factory.mktemp("images"))
    with node.cluster() as whole:
        for archive in archives:
            whole.import_image(archive)
        yield whole
