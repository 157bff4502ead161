import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import boto3
import pytest
from botocore.config import Config
from tenacity import Retrying, stop_after_delay, wait_fixed

from score_distill.artifacts.s3 import Credentials, S3Store
from score_distill.artifacts.store import Store, open_store

CREDENTIALS = Credentials("test-key", "test-secret-of-the-right-one")
BUCKET = "distill"


@dataclass(frozen=True)
class S3Server:
    port: int

    @property
    def environ(self) -> dict[str, str]:
        return {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.port}",
            "AWS_ACCESS_KEY_ID": CREDENTIALS.access_key,
            "AWS_SECRET_ACCESS_KEY": CREDENTIALS.secret_key,
        }


def free_ports(count: int) -> list[int]:
    with ExitStack() as open_at_once:
        found = [open_at_once.enter_context(socket.socket()) for _ in range(count)]
        for one in found:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in found]


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """SeaweedFS with one bucket and one identity; refuses other secrets and honours If-None-Match."""
    folder = tmp_path_factory.mktemp("weed")
    keys = {"accessKey": CREDENTIALS.access_key, "secretKey": CREDENTIALS.secret_key}
    identity = {"name": "test", "credentials": [keys], "actions": ["Admin", "Read", "Write", "List", "Tagging"]}
    (folder / "s3.json").write_text(json.dumps({"identities": [identity]}))
    kinds = ["master.port", "volume.port", "filer.port", "s3.port"]
    names = [*kinds, *(f"{kind}.grpc" for kind in kinds), "metricsPort", "s3.port.iceberg"]
    ports = dict(zip(names, free_ports(len(names)), strict=True))
    options = {
        "dir": folder,
        "ip": "127.0.0.1",
        "ip.bind": "127.0.0.1",
        "volume.max": 100,
        "master.volumeSizeLimitMB": 64,
        "master.telemetry": "false",
        "s3.config": folder / "s3.json",
        "s3.iam": "false",
        "s3.autoCreateBucket": "false",
        **ports,
    }
    weed = Path(sys.executable).parent / "weed"
    arguments = [f"-{name}={value}" for name, value in options.items()]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([weed, "server", "-s3", *arguments], stdout=log, stderr=log, cwd=folder)
    try:
        server = S3Server(ports["s3.port"])
        wait_until_it_stores(server, process, folder / "log")
        yield server
    finally:
        process.kill()
        process.wait()


def wait_until_it_stores(server: S3Server, process: "subprocess.Popen[bytes]", log: Path) -> None:
    client = boto3.client(
        "s3",
        endpoint_url=server.environ["AWS_ENDPOINT_URL"],
        aws_access_key_id=CREDENTIALS.access_key,
        aws_secret_access_key=CREDENTIALS.secret_key,
        region_name="us-east-1",
        config=Config(retries={"total_max_attempts": 1}),
    )
    for attempt in Retrying(stop=stop_after_delay(90), wait=wait_fixed(0.2), reraise=True):
        with attempt:
            assert process.poll() is None, log.read_text()[-2000:]
            if BUCKET not in [bucket["Name"] for bucket in client.list_buckets()["Buckets"]]:
                client.create_bucket(Bucket=BUCKET)
            client.put_object(Bucket=BUCKET, Key="ready", Body=b"ready")


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
def s3_place(s3_server: S3Server, request: pytest.FixtureRequest) -> Place:
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
