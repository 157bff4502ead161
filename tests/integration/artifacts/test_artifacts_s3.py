import socket
import socketserver
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from score_distill.artifacts.s3 import S3Store
from score_distill.artifacts.s3_journal import S3Appender
from score_distill.artifacts.store import (
    Store,
    StoreDenied,
    StoreError,
    StoreUnreachable,
    open_store,
    read_journal,
)

SECRET = "a-wrong-secret-nobody-may-see"


def everything_said(error: BaseException) -> str:
    return "".join(traceback.format_exception(error)) + repr(error)


def first_uses(store: Store, tmp_path) -> list:
    (tmp_path / "file").write_bytes(b"x")
    return [
        lambda: store.get("a"),
        lambda: list(store.open_lines("a")),
        lambda: store.exists("a"),
        lambda: list(store.list("")),
        lambda: store.children(""),
        lambda: store.put("a", b"x", if_absent=True),
        lambda: store.put("a", tmp_path / "file"),
        lambda: store.delete("a"),
        lambda: store.download("a", tmp_path / "copy"),
        lambda: store.appender("j"),
    ]


def test_a_wrong_secret_is_denied_everywhere_and_never_shown(s3_place, tmp_path):
    store = open_store(s3_place.uri, s3_place.environ | {"AWS_SECRET_ACCESS_KEY": SECRET})
    for use in first_uses(store, tmp_path):
        with pytest.raises(StoreDenied, match="check the access key") as raised:
            use()
        assert SECRET not in everything_said(raised.value)
    assert SECRET not in repr(store) + repr(vars(store))


def test_an_unknown_key_is_denied(s3_place):
    with pytest.raises(StoreDenied, match="InvalidAccessKeyId"):
        open_store(s3_place.uri, s3_place.environ | {"AWS_ACCESS_KEY_ID": "nobody"}).get("a")


def test_a_server_that_is_not_there_is_unreachable(s3_place):
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        endpoint = {"AWS_ENDPOINT_URL_S3": f"http://user:{SECRET}@127.0.0.1:{nobody.getsockname()[1]}"}
        with pytest.raises(StoreUnreachable, match="tried 5 times") as raised:
            open_store(s3_place.uri, s3_place.environ | endpoint).get("a")
    assert SECRET not in everything_said(raised.value)


def test_a_bucket_that_is_not_there_is_named(s3_place):
    store = open_store("s3://no-such-bucket/x", s3_place.environ)
    for use in (lambda: store.put("a", b""), lambda: list(store.list("")), lambda: store.get("a")):
        with pytest.raises(StoreError, match=r"no-such-bucket.*create the bucket or correct its name"):
            use()


def test_what_is_no_bucket_name_is_said(s3_place):
    with pytest.raises(StoreError, match=r"s3://no bucket/x.*: not a bucket name"):
        open_store("s3://no bucket/x", s3_place.environ).get("a")


class CuttingProxy(socketserver.ThreadingTCPServer):
    """Passes connections on to `port` and cuts the first `cuts` of them `size` bytes into the body of an answer."""

    daemon_threads = True

    def __init__(self, port: int, cuts: int, size: int) -> None:
        super().__init__(("127.0.0.1", 0), _Cut)
        self.port, self.cuts, self.size = port, cuts, size


class _Cut(socketserver.BaseRequestHandler):
    server: CuttingProxy

    def handle(self) -> None:
        self.server.cuts -= 1
        left = self.server.size if self.server.cuts >= 0 else None
        with socket.create_connection(("127.0.0.1", self.server.port)) as upstream:
            threading.Thread(target=self.ask, args=(upstream,), daemon=True).start()
            if left is not None:
                head = b""
                while not head.endswith(b"\r\n\r\n"):
                    head += upstream.recv(1)
                self.request.sendall(head)
            while left != 0 and (data := upstream.recv(min(65536, left or 65536))):
                self.request.sendall(data)
                left = None if left is None else left - len(data)

    def ask(self, upstream: socket.socket) -> None:
        try:
            while data := self.request.recv(65536):
                upstream.sendall(data)
        except OSError:
            return


@contextmanager
def cut(place, cuts: int, size: int) -> Iterator[S3Store]:
    port = int(place.environ["AWS_ENDPOINT_URL"].rpartition(":")[2])
    with CuttingProxy(port, cuts, size) as proxy:
        threading.Thread(target=proxy.serve_forever, daemon=True).start()
        yield open_store(place.uri, place.environ | {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{proxy.server_address[1]}"})
        proxy.shutdown()


def test_a_stream_that_breaks_goes_on_where_it_broke(s3_place):
    lines = [f"{number}\n".encode() * 10 for number in range(100_000)]
    s3_place.open().put("a", b"".join(lines))
    with cut(s3_place, cuts=7, size=1_500_000) as store:
        assert store.get("a") == b"".join(lines)


def test_a_stream_that_always_breaks_ends_in_unreachable(s3_place):
    s3_place.open().put("a", b"x" * 100_000)
    with cut(s3_place, cuts=1000, size=0) as store, pytest.raises(StoreUnreachable, match="a: no answer, tried 5"):
        store.get("a")


def test_journal_parts_go_out_by_size_by_time_and_on_close(s3_store):
    stored = threading.Event()

    def put(key: str, data: bytes) -> None:
        s3_store.put(key, data)
        stored.set()

    by_size = S3Appender(put, "size", seconds=3600, size=100)
    by_size.append({"text": "x" * 100})
    assert stored.is_set()
    stored.clear()
    by_time = S3Appender(put, "time", seconds=0.01, size=1 << 20)
    by_time.append({"n": 1})
    assert stored.wait(20)
    at_close = S3Appender(put, "close", seconds=3600, size=1 << 20)
    at_close.append({"n": 1})
    assert list(s3_store.list("close")) == []
    for one in (by_size, by_time, at_close):
        one.close()
    for journal in ("time", "close"):
        assert list(read_journal(s3_store, journal)) == [{"n": 1}]
    assert list(s3_store.list("size")) == ["size/00000000.jsonl"]
    with pytest.raises(ValueError, match="closed"):
        at_close.append({})


def test_a_journal_keeps_what_could_not_be_stored_until_it_can(s3_store):
    up = threading.Event()

    def put(key: str, data: bytes) -> None:
        if not up.is_set():
            raise StoreUnreachable("the network is down")
        s3_store.put(key, data)

    journal = S3Appender(put, "j", seconds=0.01)
    appended = 0
    with pytest.raises(StoreUnreachable, match="down"):
        while True:
            journal.append({"n": appended})
            appended += 1
    up.set()
    journal.close()
    assert [row["n"] for row in read_journal(s3_store, "j")] == list(range(appended))
