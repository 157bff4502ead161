"""S3 replies that no real server can be made to give, from an HTTP stand-in that keeps objects and has one fault."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from score_distill.artifacts.store import (
    Store,
    StoreDenied,
    StoreError,
    StoreFull,
    StoreUnfit,
    check_store,
    open_store,
)
from score_distill.errors import Exit

Fault = Callable[[str, bool], tuple[int, str] | None]


class StandIn(ThreadingHTTPServer):
    """``fault(method, conditional)`` gives status and code of a refusal, or None; ``ignores`` the condition or not."""

    daemon_threads = True

    def __init__(self, fault: Fault, *, ignores: bool = False) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.fault, self.ignores = fault, ignores
        self.objects: dict[str, bytes] = {}

    def handle_error(self, *_: object) -> None:
        """A client that goes away is no news."""


class _Handler(BaseHTTPRequestHandler):
    server: StandIn
    protocol_version = "HTTP/1.1"

    def do(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        conditional, objects = self.headers.get("If-None-Match") == "*", self.server.objects
        fault = self.server.fault(self.command, conditional)
        if fault is not None:
            status, code = fault
            self.answer(status, f"<Error><Code>{code}</Code><Message>HUSH</Message></Error>".encode())
        elif self.command == "PUT" and conditional and self.path in objects and not self.server.ignores:
            self.answer(412, b"<Error><Code>PreconditionFailed</Code></Error>")
        elif self.command == "PUT":
            objects[self.path] = body
            self.answer(200, b"")
        elif self.command == "GET" and "list-type" not in self.path:
            self.answer(200, objects[self.path])
        elif self.command == "GET":
            self.answer(200, b"<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>")
        else:
            objects.clear()
            self.answer(200, b"<DeleteResult/>")

    do_GET = do_PUT = do_POST = do_HEAD = do

    def answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", '"x"')
        self.send_header("x-amz-bucket-region", "eu-west-1")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def store_with(stand_in: StandIn) -> Iterator[Store]:
    threading.Thread(target=stand_in.serve_forever, args=(0.01,), daemon=True).start()
    keys = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "s", "AWS_REGION": "us-east-1"}
    try:
        yield open_store("s3://bucket/x", keys | {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{stand_in.server_address[1]}"})
    finally:
        stand_in.shutdown()
        stand_in.server_close()


def always(status: int, code: str) -> Fault:
    return lambda method, conditional: (status, code)


def conditional(status: int, code: str) -> Fault:
    return lambda method, conditional: (status, code) if conditional else None


FAULTS: list[tuple[Callable[[], StandIn], type[StoreError], str]] = [
    (lambda: StandIn(lambda *_: None, ignores=True), StoreUnfit, "two writers would claim one name; .*If-None-Match"),
    (lambda: StandIn(conditional(501, "NotImplemented")), StoreUnfit, "NotImplemented.*If-None-Match"),
    (lambda: StandIn(always(400, "ExpiredToken")), StoreDenied, "expired; renew"),
    (lambda: StandIn(always(403, "RequestTimeTooSkewed")), StoreDenied, "the clock of this machine"),
    (lambda: StandIn(always(403, "InvalidAccessKeyId")), StoreDenied, "AWS_ACCESS_KEY_ID"),
    (lambda: StandIn(always(403, "SignatureDoesNotMatch")), StoreDenied, "AWS_SECRET_ACCESS_KEY"),
    (lambda: StandIn(always(403, "AccessDenied")), StoreDenied, "may get, put, list and delete"),
    (lambda: StandIn(always(400, "KMS.DisabledException")), StoreDenied, "encrypted with"),
    (lambda: StandIn(always(404, "NoSuchBucket")), StoreUnfit, "create the bucket"),
    (lambda: StandIn(always(301, "PermanentRedirect")), StoreUnfit, "another region; set AWS_REGION"),
    (lambda: StandIn(always(400, "AuthorizationHeaderMalformed")), StoreUnfit, "another region; set AWS_REGION"),
    (lambda: StandIn(always(403, "QuotaExceeded")), StoreFull, "raise the quota"),
    (lambda: StandIn(always(507, "XMinioStorageFull")), StoreFull, "make room"),
]


@pytest.mark.parametrize(("stand_in", "kind", "words"), FAULTS, ids=range(len(FAULTS)))
def test_what_a_store_refuses_is_told_by_its_code(stand_in, kind, words):
    with store_with(stand_in()) as store, pytest.raises(kind, match=words) as told:
        check_store(store, "run")
    assert told.value.exit == (Exit.BAD_INPUT if kind in (StoreUnfit, StoreDenied) else Exit.INFRASTRUCTURE)
    assert "HUSH" not in str(told.value)


def test_a_store_that_does_what_is_needed_is_left_as_it_was(tmp_path):
    stand_in = StandIn(lambda *_: None)
    with store_with(stand_in) as store:
        check_store(store, "run")
    assert stand_in.objects == {}
    check_store(open_store(str(tmp_path), {}), "run")
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
