"""A real S3 server on this machine: SeaweedFS with one bucket and one identity; it refuses other secrets."""

import json
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import boto3
from botocore.config import Config
from tests.cluster.processes import Daemon, free_ports, start
from tests.cluster.waiting import eventually

BUCKET = "score"


@dataclass
class ObjectStore:
    """``environ`` reaches it from pods and from here."""

    environ: dict[str, str]
    _command: list[object] = field(repr=False)
    _log: Path = field(repr=False)
    _daemon: Daemon | None = field(default=None, repr=False)

    def start(self) -> None:
        """Return when it stores; the bucket is made if it is not there."""
        daemon = self._daemon = start(self._command, self._log)

        def stores() -> None:
            daemon.check()
            client = self.client()
            if BUCKET not in [bucket["Name"] for bucket in client.list_buckets()["Buckets"]]:
                client.create_bucket(Bucket=BUCKET)
            client.put_object(Bucket=BUCKET, Key="ready", Body=b"ready")

        eventually(stores, within=90)

    def kill(self) -> None:
        """Nothing answers until it is started again; what it has it keeps."""
        if self._daemon is not None:
            self._daemon.kill()
            self._daemon = None

    def upload(self, folder: Path, prefix: str) -> None:
        """Every file of the folder below the prefix."""
        for path in folder.rglob("*"):
            if path.is_file():
                self.client().upload_file(str(path), BUCKET, f"{prefix}/{path.relative_to(folder)}")

    def keys(self, prefix: str) -> list[str]:
        pages = self.client().get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=prefix)
        return [one["Key"] for page in pages for one in page.get("Contents", [])]

    def read(self, key: str) -> bytes:
        return bytes(self.client().get_object(Bucket=BUCKET, Key=key)["Body"].read())

    def client(self):  # type: ignore[no-untyped-def]
        return boto3.client(
            "s3",
            endpoint_url=self.environ["AWS_ENDPOINT_URL"],
            aws_access_key_id=self.environ["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=self.environ["AWS_SECRET_ACCESS_KEY"],
            region_name="us-east-1",
            config=Config(retries={"total_max_attempts": 1}),
        )


@contextmanager
def object_store(host: str, folder: Path) -> Iterator[ObjectStore]:
    """Serve on ``host`` with what it keeps in ``folder``, until the end of the block."""
    access, secret = "score", secrets.token_urlsafe(24)
    identity = {"name": "score", "credentials": [{"accessKey": access, "secretKey": secret}]}
    identity["actions"] = ["Admin", "Read", "Write", "List", "Tagging"]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "s3.json").write_text(json.dumps({"identities": [identity]}))
    kinds = ["master.port", "volume.port", "filer.port", "s3.port"]
    names = [*kinds, *(f"{kind}.grpc" for kind in kinds), "metricsPort"]
    ports = dict(zip(names, free_ports(len(names)), strict=True))
    options = {
        "dir": folder,
        "ip": host,
        "ip.bind": host,
        "volume.max": 100,
        "master.volumeSizeLimitMB": 64,
        "master.telemetry": "false",
        "s3.config": folder / "s3.json",
        "s3.iam": "false",
        "s3.autoCreateBucket": "false",
        "s3.port.iceberg": 0,
        "s3.port.lance": 0,
        **ports,
    }
    weed = Path(sys.executable).parent / "weed"
    command = [weed, "server", "-s3", *(f"-{name}={value}" for name, value in options.items())]
    environ = {
        "AWS_ENDPOINT_URL": f"http://{host}:{ports['s3.port']}",
        "AWS_ACCESS_KEY_ID": access,
        "AWS_SECRET_ACCESS_KEY": secret,
    }
    served = ObjectStore(environ, command, folder / "log")
    try:
        served.start()
        yield served
    finally:
        served.kill()
