from collections.abc import Iterator

import pytest
from tests.cluster import images, node
from tests.cluster.node import Cluster
from tests.cluster.product import Installed, installed


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A real cluster with one node that has the images. Share it by namespaces."""
    archives = images.worker(), images.operator(tmp_path_factory.mktemp("images"))
    with node.cluster() as whole:
        for archive in archives:
            whole.import_image(archive)
        yield whole


@pytest.fixture(scope="session")
def product(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installed]:
    with installed(cluster, tmp_path_factory.mktemp("product")) as found:
        yield found
