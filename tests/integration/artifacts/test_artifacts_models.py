import gzip
import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from score_distill.artifacts.data import DataNotUsable, open_data
from score_distill.artifacts.models import ModelNotUsable, check_model, model_folder
from score_distill.artifacts.pages import Page, read_pages
from score_distill.artifacts.store import StoreDenied
from score_distill.artifacts.uris import UriResolver

MODEL = {
    "config.json": b'{"model_type": "llama"}',
    "tokenizer.json": b"{}",
    "chat_template.jinja": b"{{ messages }}",
    "model.safetensors": b"weights",
    "pytorch_model.bin": b"the same weights again",
    "onnx/config.json": b"{}",
    "README.md": b"# model",
}
COMMIT = "1" * 40


def test_a_model_on_s3_is_fetched_once_and_anew_when_it_changed(s3_place, tmp_path):
    store = s3_place.open()
    for name, content in MODEL.items():
        store.put(f"models/m/{name}", content)
    places = UriResolver(tmp_path, tmp_path / "cache", tmp_path, s3_place.environ)
    uri = f"{s3_place.uri}/models/m"
    folder = model_folder(uri, places)
    check_model(folder, uri)
    first = (folder / "config.json").stat().st_mtime_ns
    assert model_folder(uri, places) == folder
    assert (folder / "config.json").stat().st_mtime_ns == first
    store.put("models/m/model.safetensors", b"weights2")
    assert (model_folder(uri, places) / "model.safetensors").read_bytes() == b"weights2"


def test_a_model_on_s3_that_is_not_there_or_not_ours(s3_place, tmp_path):
    places = UriResolver(tmp_path, tmp_path / "cache", tmp_path, s3_place.environ)
    with pytest.raises(ModelNotUsable, match="nothing is stored there"):
        model_folder(f"{s3_place.uri}/models/none", places)
    stranger = UriResolver(tmp_path, tmp_path, tmp_path, s3_place.environ | {"AWS_SECRET_ACCESS_KEY": "wrong"})
    with pytest.raises(StoreDenied):
        model_folder(f"{s3_place.uri}/models/m", stranger)


@pytest.mark.parametrize("name", ["train.jsonl", "train.jsonl.gz"])
def test_data_on_s3_streams_plain_or_gz(s3_place, tmp_path, name):
    lines = [b'{"id": %d}\n' % number for number in range(200_000)]
    content = b"".join(lines)
    s3_place.open().put(f"data/{name}", gzip.compress(content, 1) if name.endswith(".gz") else content)
    places = UriResolver(tmp_path, tmp_path, tmp_path, s3_place.environ)
    assert list(open_data(f"{s3_place.uri}/data/{name}", places)) == lines
    with pytest.raises(DataNotUsable, match="no such object"):
        list(open_data(f"{s3_place.uri}/data/none-{name}", places))


def test_a_corpus_on_s3_is_a_folder_or_a_file(s3_place, tmp_path):
    store = s3_place.open()
    for name, content in {"b.md": b"# B\nb", "deep/a.txt": b"a", "c.png": b"\xff"}.items():
        store.put(f"corpus/{name}", content)
    store.put("corpus.jsonl", b'{"text": "line"}')
    places = UriResolver(tmp_path, tmp_path, tmp_path, s3_place.environ)
    assert list(read_pages(f"{s3_place.uri}/corpus", places)) == [
        Page("B", "b.md", "# B\nb"),
        Page("a", "deep/a.txt", "a"),
    ]
    assert list(read_pages(f"{s3_place.uri}/corpus.jsonl", places)) == [Page("1", "1", "line")]
    with pytest.raises(DataNotUsable, match="no pages; give a folder"):
        list(read_pages(f"{s3_place.uri}/none", places))
    stranger = UriResolver(tmp_path, tmp_path, tmp_path, s3_place.environ | {"AWS_SECRET_ACCESS_KEY": "wrong"})
    with pytest.raises(StoreDenied):
        list(read_pages(f"{s3_place.uri}/corpus", stranger))


class FakeHub(BaseHTTPRequestHandler):
    """As much of the hub's HTTP interface as a snapshot needs; `org/m` is its one model, `org/gated` is gated."""

    def do_HEAD(self) -> None:
        self.answer(send=False)

    def do_GET(self) -> None:
        self.answer(send=True)

    def answer(self, send: bool) -> None:
        path = self.path.split("?")[0]
        if "org/gated" in path:
            self.reply(403, b"{}", {"X-Error-Code": "GatedRepo"}, send)
        elif "org/m" not in path:
            self.reply(401, b"{}", {"X-Error-Code": "RepoNotFound"}, send)
        elif "/revision/" in path and path.endswith(("/main", "/v1", COMMIT)):
            listing = {"id": "org/m", "sha": COMMIT, "siblings": [{"rfilename": name} for name in MODEL]}
            self.reply(200, json.dumps(listing).encode(), {"Content-Type": "application/json"}, send)
        elif "/revision/" in path:
            self.reply(404, b"{}", {"X-Error-Code": "RevisionNotFound"}, send)
        elif f"/org/m/tree/{COMMIT}" in path:
            tree = [{"type": "file", "path": n, "size": len(c), "oid": "0" * 40} for n, c in MODEL.items()]
            self.reply(200, json.dumps(tree).encode(), {"Content-Type": "application/json"}, send)
        elif f"/resolve/{COMMIT}/" in path:
            content = MODEL[path.partition(f"/resolve/{COMMIT}/")[2]]
            etag = hashlib.sha1(content).hexdigest()
            self.reply(200, content, {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT}, send)
        else:
            self.reply(404, b"", {}, send)

    def reply(self, status: int, body: bytes, headers: dict[str, str], send: bool) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if send:
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def hub_places(tmp_path: Path) -> Iterator[UriResolver]:
    with ThreadingHTTPServer(("127.0.0.1", 0), FakeHub) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        environ = {"HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}"}
        yield UriResolver(tmp_path, tmp_path / "cache", tmp_path, environ)
        server.shutdown()


def test_a_model_from_the_hub_comes_without_what_is_not_needed(hub_places):
    folder = model_folder("hf://org/m@v1", hub_places)
    check_model(folder, "hf://org/m@v1")
    assert {path.name for path in folder.iterdir()} == {
        "config.json",
        "tokenizer.json",
        "chat_template.jinja",
        "model.safetensors",
    }
    assert model_folder("hf://org/m", hub_places) == folder


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("hf://org/none", "no such model on the hub"),
        ("hf://org/gated", "is gated"),
        ("hf://org/m@none", "no revision none"),
        ("hf://one/two/three", "write hf://ORG/NAME"),
    ],
)
def test_what_the_hub_refuses_is_explained(hub_places, uri, message):
    with pytest.raises(ModelNotUsable, match=message):
        model_folder(uri, hub_places)


def test_a_hub_that_is_not_there_is_said(tmp_path):
    places = UriResolver(tmp_path, tmp_path / "cache", tmp_path, {"HF_ENDPOINT": "http://127.0.0.1:9"})
    with pytest.raises(ModelNotUsable, match="the hub does not answer"):
        model_folder("hf://org/m", places)
