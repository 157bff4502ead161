"""What a model folder must have, so that both vLLM and the trainer take it and the agent can speak to it.

Standard library alone: asked before anything is paid for. No weights are read: whether they fit the config shows when
the model is loaded.
"""

import json
from pathlib import Path
from typing import Any

WEIGHTS = "model.safetensors"


def faults(folder: Path) -> list[str]:
    """All that is missing or broken, each with what would be right; empty when the model can be used."""
    return [*_config(folder), *_tokenizer(folder), *_weights(folder), *_chat_template(folder)]


def _config(folder: Path) -> list[str]:
    config = _read_json(folder / "config.json")
    if config is None:
        return ["no config.json that is a JSON object; model.save_pretrained writes it"]
    if "model_type" not in config:
        return ["config.json has no model_type; name the architecture, such as llama"]
    return []


def _tokenizer(folder: Path) -> list[str]:
    if not (folder / "tokenizer.json").is_file():
        return ["no tokenizer.json; a fast tokenizer's save_pretrained writes it beside the weights"]
    broken = _read_json(folder / "tokenizer.json") is None
    return ["tokenizer.json is not a JSON object; tokenizer.save_pretrained writes it"] if broken else []


def _weights(folder: Path) -> list[str]:
    index = folder / f"{WEIGHTS}.index.json"
    if index.is_file():
        shards = set(((_read_json(index) or {}).get("weight_map") or {}).values())
        lost = sorted(shard for shard in shards if not (folder / shard).is_file())
        if not shards:
            return [f"{index.name} names no weights; save the model again"]
        return [f"{len(lost)} of {len(shards)} weight files are missing, the first is {lost[0]}"] if lost else []
    if (folder / WEIGHTS).is_file():
        return [] if (folder / WEIGHTS).stat().st_size else [f"{WEIGHTS} is empty; copy it again"]
    pickled = any(folder.glob("pytorch_model*.bin"))
    told = "pytorch_model.bin can run code when it is read; save the model again with safe_serialization=True"
    return [f"no weights; {WEIGHTS}, or {WEIGHTS}.index.json with its files, is needed" + pickled * f" ({told})"]


def _chat_template(folder: Path) -> list[str]:
    in_config = (_read_json(folder / "tokenizer_config.json") or {}).get("chat_template")
    if in_config or any((folder / name).is_file() for name in ("chat_template.jinja", "chat_template.json")):
        return []
    return ["no chat template; add chat_template.jinja, or chat_template in tokenizer_config.json"]


def _read_json(path: Path) -> dict[str, Any] | None:
    try:
        found = json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return None
    return found if isinstance(found, dict) else None
