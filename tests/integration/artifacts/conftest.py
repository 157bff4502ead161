import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.s3 import BUCKET, ObjectStore, object_store

from score_distill.artifacts.s3 import S3Store
from score_distill.artifacts.store import Store, open_store


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    with object_store("127.0.0.1", tmp_path_factory.mktemp("weed")) as server:
        yield server


@dataclass(frozen=True)
class Place:
    """A store by its URI, and the environment that opens it, for this process and for others.

    What a process says goes through a small pipe, so that it cannot be far ahead of the test that listens.
    """

    uri: str
    environ: dict[str, str]

    def open(self) -> Store:
        return open_store(self.uri, self.environ)

    def start(self, verb: str, *arguments: object) -> "subprocess.Popen[str]":
        program = Path(__file__).with_name("worker.py")
        command = [sys.executable, str(program), verb, self.uri, *map(str, arguments)]
        environ = {**os.environ, **self.environ}
        pipe = subprocess.PIPE
        return subprocess.Popen(command, env=environ, text=True, stdin=pipe, stdout=pipe, pipesize=4096)


@pytest.fixture
def s3_place(s3_server: ObjectStore, request: pytest.FixtureRequest) -> Place:
    name = "".join(letter if letter.isalnum() else "-" for letter in request.node.name)
    return Place(f"s3://{BUCKET}/{name}", s3_server.environ)


@pytest.fixture
def s3_store(s3_place: Place) -> S3Store:
    store = s3_place.open()
    assert isinstance(store, S3Store)
    return store


@pytest.fixture
def folder_place(tmp_path: Path) -> Place:
    return Place(str(tmp_path / "store"), {})


@pytest.fixture(params=["folder", "s3"])
def place(request: pytest.FixtureRequest) -> Place:
    found: Place = request.getfixturevalue(f"{request.param}_place")
    return found
