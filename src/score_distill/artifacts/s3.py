"""A store in an S3 bucket: AWS, and anything that speaks it and honours If-None-Match.

Every request is tried a bounded number of times; what is left of its errors names bucket, endpoint and code, never a
secret. Objects of `PART` bytes and more go up in parts; `if_absent` is then a look before the upload and no
promise (only content-addressed blobs are that large). Parts of an upload whose process was killed stay until the
bucket's lifecycle rule for incomplete uploads removes them.
"""

import io
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import urlsplit

import boto3
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import ClientError, HTTPClientError, IncompleteReadError
from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_random_exponential

from score_distill.artifacts.s3_errors import code_of, explained, store_errors
from score_distill.artifacts.s3_journal import S3Appender
from score_distill.artifacts.store import StoreMissing, check_key, claim_journal, room_needed

ATTEMPTS = 5
PART = 64 << 20
CHUNK = 1 << 20
NOT_NOW = ("ConditionalRequestConflict", "409")
TAKEN = ("PreconditionFailed", "412")


@dataclass(frozen=True)
class Credentials:
    access_key: str
    secret_key: str = field(repr=False)
    session_token: str | None = field(default=None, repr=False)


def open_s3(uri: str, environ: Mapping[str, str]) -> "S3Store":
    """The store at `s3://bucket/prefix`; endpoint, region and keys from the AWS_ variables in `environ`."""
    bucket, _, prefix = uri.removeprefix("s3://").partition("/")
    if not bucket:
        raise ValueError(f"{uri}: no bucket; write s3://BUCKET/PREFIX")
    access, secret = environ.get("AWS_ACCESS_KEY_ID"), environ.get("AWS_SECRET_ACCESS_KEY")
    return S3Store(
        bucket,
        prefix.strip("/"),
        environ.get("AWS_ENDPOINT_URL_S3") or environ.get("AWS_ENDPOINT_URL"),
        Credentials(access, secret, environ.get("AWS_SESSION_TOKEN")) if access and secret else None,
        environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION"),
    )


class S3Store:
    """Without `credentials` boto3 looks where it always does (profile, web identity, instance role)."""

    def __init__(
        self,
        bucket: str,
        prefix: str,
        endpoint_url: str | None = None,
        credentials: Credentials | None = None,
        region: str | None = None,
    ) -> None:
        config = Config(
            connect_timeout=5,
            read_timeout=30,
            retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
            s3={"addressing_style": "path" if endpoint_url else "auto"},
            request_checksum_calculation="when_required",  # servers other than AWS often lack the newer ones
            response_checksum_validation="when_required",
        )
        self._client = boto3.session.Session().client(
            "s3",
            region_name=region,
            endpoint_url=endpoint_url,
            aws_access_key_id=credentials and credentials.access_key,
            aws_secret_access_key=credentials and credentials.secret_key,
            aws_session_token=credentials and credentials.session_token,
            config=config,
        )
        self._transfer = TransferConfig(multipart_threshold=PART, multipart_chunksize=PART, max_concurrency=4)
        self._bucket = bucket
        self._prefix = f"{prefix}/" if prefix else ""
        self._where = f"s3://{bucket}/{prefix}"
        if endpoint_url:
            self._where += f" at {urlsplit(endpoint_url).netloc.rpartition('@')[2]}"

    def get(self, key: str) -> bytes:
        return b"".join(self._chunks(key))

    def open_lines(self, key: str) -> Iterator[bytes]:
        return iter(self.open(key))

    def open(self, key: str) -> io.BufferedReader:
        """The object as a file to read from its start to its end."""
        return io.BufferedReader(_Stream(self._chunks(key)), CHUNK)

    def put(self, key: str, data: bytes | Path, *, if_absent: bool = False) -> bool:
        name = self._prefix + check_key(key)
        with data.open("rb") if isinstance(data, Path) else io.BytesIO(data) as body, self._errors(key):
            if isinstance(data, Path) and data.stat().st_size >= PART:
                if if_absent and self.exists(key):
                    return False
                self._client.upload_fileobj(body, self._bucket, name, Config=self._transfer)
                return True
            return self._put_once(name, body, {"IfNoneMatch": "*"} if if_absent else {})

    def exists(self, key: str) -> bool:
        try:
            with self._errors(key):
                self._client.head_object(Bucket=self._bucket, Key=self._prefix + key)
        except StoreMissing:
            return False
        return True

    def list(self, prefix: str) -> Iterator[str]:
        return (key for key, _ in self.versions(prefix))

    def versions(self, prefix: str) -> Iterator[tuple[str, str]]:
        """Every key below the folder with its ETag, which changes when the content does."""
        for page in self._pages(prefix):
            for found in page.get("Contents", []):
                if not found["Key"].endswith("/"):
                    yield found["Key"].removeprefix(self._prefix), found["ETag"]

    def children(self, prefix: str) -> tuple[str, ...]:
        pages = self._pages(prefix, Delimiter="/")
        return tuple(found["Prefix"].split("/")[-2] for page in pages for found in page.get("CommonPrefixes", []))

    def delete(self, prefix: str) -> None:
        found = chain([check_key(prefix)], self.list(prefix))
        while keys := list(islice(found, 1000)):
            with self._errors(prefix):
                names = [{"Key": self._prefix + key} for key in keys]
                reply = self._client.delete_objects(Bucket=self._bucket, Delete={"Objects": names, "Quiet": True})
            for failed in reply.get("Errors", []):
                raise explained(f"{self._where}: {failed['Key']} was not deleted", failed["Code"], 0, ATTEMPTS)

    def download(self, key: str, path: Path) -> None:
        with self._errors(key), room_needed(str(path)):
            self._client.download_file(self._bucket, self._prefix + key, str(path), Config=self._transfer)

    def appender(self, key_prefix: str) -> S3Appender:
        return S3Appender(self.put, claim_journal(self, key_prefix))

    def _put_once(self, name: str, body: BinaryIO, condition: dict[str, str]) -> bool:
        """One request; another when a writer of the same key was in the middle of it. False when the key is taken."""
        for attempt in Retrying(
            retry=retry_if_exception(lambda error: code_of(error) in NOT_NOW),
            stop=stop_after_attempt(ATTEMPTS),
            wait=wait_random_exponential(0.1, 2),
            reraise=True,
        ):
            with attempt:
                body.seek(0)
                try:
                    self._client.put_object(Bucket=self._bucket, Key=name, Body=body, **condition)
                except ClientError as error:
                    if code_of(error) not in TAKEN:
                        raise
                    return False
        return True

    def _chunks(self, key: str) -> Iterator[bytes]:
        """The object's bytes; a stream that breaks is taken up where it broke, if the object is still the same."""
        offset, broken, go_on = 0, 0, dict[str, str]()
        while True:
            with self._errors(key):
                reply = self._client.get_object(Bucket=self._bucket, Key=self._prefix + key, **go_on)
                try:
                    with closing(reply["Body"]) as body:
                        for chunk in body.iter_chunks(CHUNK):
                            offset, broken = offset + len(chunk), 0
                            yield chunk
                    return
                except (HTTPClientError, IncompleteReadError):
                    broken += 1
                    if broken == ATTEMPTS:
                        raise
                    go_on = {"Range": f"bytes={offset}-", "IfMatch": reply["ETag"]}

    def _pages(self, prefix: str, **options: str) -> Iterator[dict[str, Any]]:
        folder = self._prefix + (f"{check_key(prefix)}/" if prefix else "")
        with self._errors(prefix):
            pages = self._client.get_paginator("list_objects_v2")
            yield from pages.paginate(Bucket=self._bucket, Prefix=folder, **options)

    def _errors(self, key: str) -> AbstractContextManager[None]:
        return store_errors(f"{self._where}: {key or '/'}", ATTEMPTS)


class _Stream(io.RawIOBase):
    """Chunks as a raw file, for the standard library's readers."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._rest:
            chunk = next(self._chunks, None)
            if chunk is None:
                return 0
            self._rest = memoryview(chunk)
        size = min(len(buffer), len(self._rest))
        buffer[:size], self._rest = self._rest[:size], self._rest[size:]
        return size
