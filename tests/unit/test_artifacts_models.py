import gzip
import json
from pathlib import Path

import pytest

from score_distill.artifacts.data import DataNotUsable, open_data
from score_distill.artifacts.models import ModelNotUsable, check_model, model_folder
from score_distill.artifacts.uris import UriResolver

WHOLE = {
    "config.json": json.dumps({"model_type": "llama"}),
    "tokenizer.json": "{}",
    "model.safetensors": "weights",
    "chat_template.jinja": "{{ messages }}",
}


@pytest.fixture
def places(tmp_path: Path) -> UriResolver:
    return UriResolver(base=tmp_path / "base", cache=tmp_path / "cache", claims=tmp_path / "claims", environ={})


def write(folder: Path, files: dict[str, str]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(text)
    return folder


def test_local_uris_name_folders(places, tmp_path):
    inside = write(places.base / "models" / "m", {})
    claimed = write(places.claims / "shared" / "m 1", {})
    assert model_folder("models/m", places) == inside
    assert model_folder(f"file://{inside}", places) == inside
    assert model_folder(str(inside), places) == inside
    assert model_folder("pvc://shared/m%201", places) == claimed


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("models/none", "models/none: no folder"),
        ("pvc://shared/../other/m", r"without '\.\.'"),
        ("gs://b/m", "use hf://, s3://, pvc://, file:// or a path"),
        ("s3:///m", "no bucket"),
    ],
)
def test_unusable_uris_say_what_would_be_right(places, uri, message):
    with pytest.raises(ModelNotUsable, match=message):
        model_folder(uri, places)


def test_a_whole_model_passes(tmp_path):
    check_model(write(tmp_path, WHOLE), "m")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"config.json": None}, "no config.json"),
        ({"config.json": "{"}, "no config.json that is a JSON object"),
        ({"config.json": "{}"}, "no model_type"),
        ({"tokenizer.json": None}, "no tokenizer.json; a fast tokenizer"),
        ({"tokenizer.json": "<html>"}, "tokenizer.json is not a JSON object"),
        ({"tokenizer.json": None, "tokenizer.model": "sentencepiece"}, "no tokenizer.json; a fast tokenizer"),
        ({"model.safetensors": None}, "no weights"),
        ({"model.safetensors": None, "pytorch_model.bin": "w"}, "no weights.*pytorch_model.bin can run code"),
        ({"model.safetensors": None, "adapter_model.safetensors": "w"}, "no weights"),
        ({"model.safetensors": ""}, "model.safetensors is empty"),
        ({"chat_template.jinja": None}, "no chat template"),
        (
            {"model.safetensors.index.json": json.dumps({"weight_map": {"a": "1-of-2", "b": "2-of-2"}}), "1-of-2": "w"},
            "1 of 2 weight files are missing, the first is 2-of-2",
        ),
    ],
)
def test_each_fault_of_a_model_folder_is_named(tmp_path, changed, message):
    files = {name: text for name, text in (WHOLE | changed).items() if text is not None}
    with pytest.raises(ModelNotUsable, match=f"file:///m: .*{message}"):
        check_model(write(tmp_path, files), "file:///m")


def test_all_faults_come_at_once(tmp_path):
    with pytest.raises(ModelNotUsable) as raised:
        check_model(tmp_path, "m")
    assert [part.split()[1] for part in str(raised.value).split(": ", 1)[1].split("; ") if part.startswith("no ")] == [
        "config.json",
        "tokenizer.json",
        "weights",
        "chat",
    ]


def test_the_chat_template_may_be_in_the_tokenizer_config(tmp_path):
    files = {name: text for name, text in WHOLE.items() if name != "chat_template.jinja"}
    config = {"tokenizer_config.json": json.dumps({"chat_template": "x"})}
    check_model(write(tmp_path, files | config), "m")


def test_data_lines_come_as_they_are_stored_plain_or_gz(places):
    content = b'{"id": 1}\n\n{"id": 2}'
    places.base.mkdir()
    (places.base / "a.jsonl").write_bytes(content)
    with gzip.open(places.base / "a.jsonl.gz", "wb") as file:
        file.write(content)
    expected = [b'{"id": 1}\n', b"\n", b'{"id": 2}']
    assert list(open_data("a.jsonl", places)) == expected
    assert list(open_data(f"file://{places.base}/a.jsonl.gz", places)) == expected


def test_data_faults_say_what_would_be_right(places):
    places.base.mkdir()
    (places.base / "plain.gz").write_bytes(b'{"id": 1}\n')
    (places.base / "cut.gz").write_bytes(gzip.compress(b"a" * 1000)[:-10])
    for uri, message in [
        ("none.jsonl", "none.jsonl: no file"),
        (".", "a folder; name one file"),
        ("plain.gz", "damaged gzip"),
        ("cut.gz", "damaged gzip"),
        ("hf://x/y", "does not work here"),
        ("s3://file", "names no file"),
    ]:
        with pytest.raises(DataNotUsable, match=message):
            list(open_data(uri, places))
