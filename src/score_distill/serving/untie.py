"""A copy of a model folder whose output head is a weight of its own, byte for byte the embedding's.

vLLM reloads tied embeddings wrongly and says nothing, so the student is served untied. This knows the file format
alone: a safetensors file is a length of eight bytes, a JSON header of that length, and the numbers.
"""

import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

from score_distill.errors import BadInput

HEAD = "lm_head.weight"
EMBEDDINGS = ("embed_tokens.weight", "wte.weight")
SINGLE, RENAMED, EXTRA = "model.safetensors", "model-00001-of-00002.safetensors", "model-untied.safetensors"
INDEX = "model.safetensors.index.json"
CHUNK = 1 << 24

Place = Callable[[Path, Path], object]


def untie(source: Path, target: Path, place: Place) -> None:
    """Make ``target`` of the model in ``source``; ``place(file, new)`` puts a file that needs no change there.

    A model that is untied already comes out the same. BadInput for one whose embedding is not found.
    """
    target.mkdir()
    names = {path.resolve(): path.name for path in _files(source)}
    files = list(names)
    if not tied(source):
        for path in files:
            place(path, target / names[path])
        return
    config, where = json.loads((source / "config.json").read_text()), _weights(source)
    found = [weight for weight in where if weight.endswith(EMBEDDINGS)]
    if HEAD in where or len(found) != 1:
        raise BadInput(f"{source}: cannot untie its embeddings: of {', '.join(found) or 'none'}, head {HEAD in where}")
    changed = {"config.json", INDEX}
    for path in files:
        if names[path] not in changed:
            place(path, target / (RENAMED if names[path] == SINGLE else names[path]))
    _copy_weight(where[found[0]], found[0], target / EXTRA)
    index = source / INDEX
    settings = json.loads(index.read_text()) if index.exists() else {"metadata": {}}
    shards = {weight: RENAMED if names[path] == SINGLE else names[path] for weight, path in where.items()}
    (target / INDEX).write_text(json.dumps(settings | {"weight_map": shards | {HEAD: EXTRA}}, indent=2))
    (target / "config.json").write_text(json.dumps(_untied(config), indent=2))


def copy(file: Path, new: Path) -> None:
    """By hard link where the disk allows it."""
    try:
        new.hardlink_to(file)
    except OSError:
        shutil.copyfile(file, new)


def tied(source: Path) -> bool:
    """What the config says of the text model; where it says nothing, whether a head is missing."""
    config = json.loads((source / "config.json").read_text())
    text = config.get("text_config") or {}
    said = text.get("tie_word_embeddings", config.get("tie_word_embeddings"))
    return HEAD not in _weights(source) if said is None else bool(said)


def _files(source: Path) -> list[Path]:
    """In the order of their names, so that equal models come out equal."""
    return sorted(path for path in source.iterdir() if path.is_file() and not path.name.startswith("."))


def _weights(source: Path) -> dict[str, Path]:
    """The file of each weight."""
    files = [path.resolve() for path in _files(source) if path.suffix == ".safetensors"]
    return {weight: path for path in files for weight in _header(path)[0]}


def _header(path: Path) -> tuple[dict[str, dict[str, Any]], int]:
    """The weights of a file, and where its numbers begin."""
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
    header.pop("__metadata__", None)
    return header, 8 + length


def _copy_weight(source: Path, name: str, target: Path) -> None:
    header, numbers = _header(source)
    begin, end = header[name]["data_offsets"]
    about = {"__metadata__": {"format": "pt"}, HEAD: header[name] | {"data_offsets": [0, end - begin]}}
    text = json.dumps(about).encode()
    text += b" " * (-len(text) % 8)
    with source.open("rb") as old, target.open("wb") as new:
        new.write(struct.pack("<Q", len(text)) + text)
        old.seek(numbers + begin)
        left = end - begin
        while left:
            chunk = old.read(min(CHUNK, left))
            if not chunk:
                raise BadInput(f"{source}: ends before its numbers do")
            left -= new.write(chunk)


def _untied(settings: dict[str, Any]) -> dict[str, Any]:
    inner = {key: _untied(value) for key, value in settings.items() if isinstance(value, dict)}
    outer = {"tie_word_embeddings": False} if "tie_word_embeddings" in settings or "model_type" in settings else {}
    return settings | inner | outer
